"""What every command does with a disk, a file or a terminal that does not take what it writes."""

import errno
import os
import subprocess
import sys

import pytest

from l2t_ray.errors import disk_problem, exit_code
from tests.support.places import ROOT
from tests.support.terminal import Terminal
from tests.support.waiting import MOST_S

LINES = 'print("9.5 \\u00b1 0.1 \\u2013 \\u4e2d"); sys.stdout.flush(); say("10 \\u00d7 2"); return 0'


def run(body, shell='"$@"', **variables):
    """A command with this body, in a shell that redirects its streams."""
    code = f"import os, sys\nfrom l2t_ray.errors import exit_code, say\ndef command():\n    {body}\n"
    words = [sys.executable, "-c", f"{code}sys.exit(exit_code(command))"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(["bash", "-c", shell, "sh", *words], env=environment, capture_output=True, check=False)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.EROFS, "no", "/there"),
            "/there: must be writable, got 'no'; go elsewhere and launch again: nothing is lost",
        ),
        (
            OSError(errno.ENOSPC, "no", "/there"),
            "/there: the disk must have room, got 'no'; free some and launch again: nothing is lost",
        ),
        (
            OSError(errno.ECHILD, "no children", b"/there"),
            "/there: must be usable, got 'no children'; correct that (L2T_TRACEBACK=1 shows where it failed) and "
            "launch again: nothing is lost",
        ),
        (OSError(errno.ENOSPC, "full", "stdout"), "stdout: the disk must have room, got 'full'; send it elsewhere"),
    ],
)
def test_every_error_of_a_file_is_one_line_with_its_remedy(error, told):
    assert disk_problem(error) == told


@pytest.mark.parametrize("error", [OSError("no number"), TimeoutError(), ConnectionResetError(104, "reset", 7)])
def test_an_error_without_a_file_is_told_too(error, capsys):
    def command():
        raise error

    assert exit_code(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert (str(error.strerror or error) or "TimeoutError") in line


@pytest.mark.parametrize("epoch", ["", "yesterday", "1e9", "-1"])
def test_a_date_with_which_numpy_breaks_is_refused(epoch, monkeypatch, capsys):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    assert exit_code(lambda: 0) == 2
    assert capsys.readouterr().err == f"SOURCE_DATE_EPOCH: must be seconds since 1970, got {epoch!r}; unset it\n"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "315532800")
    assert exit_code(lambda: 0) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("PYTHONOPTIMIZE", "2"), ("PYTHONWARNINGS", "error"), ("PYTHONWARNINGS", "default,e::UserWarning")],
)
def test_a_mode_of_python_in_which_libraries_break_is_refused(name, value):
    done = run("return 0", **{name: value})
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(name)
    assert f"got {value}; unset it" in line


def test_a_limit_in_which_libraries_do_not_fit_is_told(capsys):
    def command():
        raise ImportError("libtorch_cuda.so: failed to map segment from shared object")

    assert exit_code(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ulimit -v: must leave room for libraries, got libtorch_cuda.so")


@pytest.mark.parametrize("filters", ["ignore", "error::ImportWarning", "error::UserWarning:my_module"])
def test_a_mode_of_python_that_is_harmless_is_taken(filters):
    assert run("return 0", PYTHONOPTIMIZE="1", PYTHONWARNINGS=filters).returncode == 0


def test_a_working_folder_that_is_gone_is_told(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    told = disk_problem(FileNotFoundError(2, "no"))
    assert told == "the working folder: must stay while a command runs, got 'no'; launch again in one that does"


def test_where_in_the_code_a_file_failed_is_shown_on_request():
    assert b"Traceback" not in run('open("/nowhere/file")').stderr
    shown = run('open("/nowhere/file")', L2T_TRACEBACK="1")
    assert shown.returncode == 1
    assert b"Traceback" in shown.stderr
    assert shown.stderr.splitlines()[-1].startswith(b"/nowhere/file: must exist, got 'No such file or directory'")


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_a_terminal_that_takes_ascii_alone_gets_ascii(variables):
    done = run(LINES, **variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"9.5 +- 0.1 - ?\n", b"10 x 2\n")


def test_lines_end_at_words_on_a_terminal_and_nowhere_in_a_file(tmp_path):
    text = "a line of words that is longer than thirty columns, with /a/path/that/is/longer/than/they/are"
    code = f"from l2t_ray.errors import say; say({text!r}, 'short')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("COLUMNS", None)
    terminal = Terminal([sys.executable, "-c", code], 30, 24, env=environment)
    assert terminal.wait(MOST_S) == 0
    assert terminal.text.splitlines() == [
        "a line of words that is longer",
        "than thirty columns, with",
        "/a/path/that/is/longer/than/they/are",
        "short",
    ]
    assert run(f"say({text!r}); return 0").stderr.decode() == f"{text}\n"


def test_a_file_name_that_is_no_unicode_is_written_as_it_is():
    assert run('print(os.fsdecode(b"caf\\xe9"))\n    return 0', PYTHONUTF8="1").stdout == b"caf\xe9\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("tail", ["", "; sys.exit(0)"])
def test_a_full_stdout_is_one_line(unbuffered, tail):
    done = run(f'print("result"){tail}; return 0', '"$@" >/dev/full', PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr == b"stdout: the disk must have room, got 'No space left on device'; send it elsewhere\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_silent(unbuffered):
    done = run('print("result"); return 0', '(sleep 0.2; "$@"; echo $? >&2) | true', PYTHONUNBUFFERED=unbuffered)
    assert done.stderr == b"1\n"


def test_another_pipe_that_breaks_is_told():
    done = run('r, w = os.pipe(); os.close(r); os.write(w, b"x")')
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"Broken pipe" in done.stderr


@pytest.mark.parametrize("shell", ['"$@" 2>/dev/full', '"$@" 2>&-', '"$@" 2> >(true)'])
def test_progress_that_cannot_be_shown_ends_nothing(shell):
    done = run('[say("x" * 9_000) for _ in range(9)]; print("result"); return 0', shell)
    assert (done.returncode, done.stdout) == (0, b"result\n")


def test_no_file_gets_the_number_of_a_closed_stdout(tmp_path):
    body = f'print("result"); f = open({str(tmp_path / "file")!r}, "w"); return f.fileno()'
    assert run(body, '"$@" <&- >&- 2>&-').returncode > 2
    assert (tmp_path / "file").read_bytes() == b""


def test_a_home_that_nobody_knows_is_the_root(monkeypatch):
    monkeypatch.setenv("HOME", "~")
    assert exit_code(lambda: 0 if os.environ["HOME"] == "/" else 1) == 0


def test_the_streams_are_as_before_afterwards(capsys):
    before = sys.stdout, sys.stderr
    assert exit_code(lambda: 3) == 3
    assert (sys.stdout, sys.stderr) == before
