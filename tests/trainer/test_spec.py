"""What a command is known by, and what only a shell understands."""

from pathlib import Path

import pytest

from l2t_ray.errors import InputError
from l2t_ray.trainer.spec import Spec


@pytest.fixture(autouse=True)
def _code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train.py", "pkg/fit.py", "pkg/run/__main__.py", "my run.sh"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"# {name}\n")


def spec(command, **values):
    return Spec(command=command, result="r.json", **values)


@pytest.mark.parametrize(
    ("command", "files", "name"),
    [
        ("python train.py --seed {seed}", ["train.py"], "train"),
        ("python -m train --seed {seed}", ["train.py"], "train"),
        ("python -m pkg.fit {seed}", ["pkg/fit.py"], "fit"),
        ("python -u -m pkg.run {seed}", ["pkg/run/__main__.py"], "run"),
        ("torchrun --nproc-per-node 2 train.py {seed}", ["train.py"], "train"),
        ("'./my run.sh' {seed}", ["./my run.sh"], "my run"),
        ("python -c 'print({seed}); 1 > 0'", [], "python"),
    ],
)
def test_a_command_is_known_by_the_code_that_it_runs(command, files, name):
    found = spec(command).with_digests()
    assert [*found.digests] == files
    assert found.name == name


def test_an_edited_module_is_another_trainer():
    before = spec("python -m train {seed}").with_digests().identity()
    Path("train.py").write_text("# edited\n")
    assert spec("python -m train {seed}").with_digests().identity() != before


@pytest.mark.parametrize(
    ("command", "got"),
    [
        ("my-train {seed}", "none in the working folder"),
        ("python -m installed {seed}", "none in the working folder"),
        ("bash -c 'python train.py {seed}'", "none in the working folder"),
        ("python trian.py {seed}", "trian.py, which is not there; correct the path"),
    ],
)
def test_a_command_whose_code_is_not_known_needs_files_or_a_version(command, got):
    with pytest.raises(InputError, match=rf"must name a file of its code.*got {got}; or add `files: \[FILE\]` or"):
        spec(command).with_digests()
    assert spec(command, files=("train.py",)).with_digests().digests
    assert spec(command, version=1).with_digests().identity() == {
        "command": command,
        "result": "r.json",
        "version": "1",
    }


NAMES = ["$HOME", "--data=$HOME/x", "~/data", "# of today"]
ENDS = [
    *NAMES,
    "> log.txt",
    ">log.txt",
    "2>&1",
    ">> log",
    "&> log",
    "| tee log",
    "&& echo x",
    "|| true",
    "; ls",
    "&",
    "< x",
]


@pytest.mark.parametrize("end", ENDS)
def test_what_only_a_shell_understands_is_refused(end):
    with pytest.raises(InputError, match=r"must be words alone, as no shell reads it, got .*; write a script"):
        spec(f"python train.py {{seed}} {end}").with_digests()


@pytest.mark.parametrize(
    "words",
    ["'>'", "'$HOME'", "a~/b", "x=${oc.env:USER}", "--colour #fff", '"a; b"', "--url http://x?a=1&b=2", "--set a>b"],
)
def test_such_characters_within_words_are_taken(words):
    assert spec(f"python train.py {{seed}} {words}").with_digests().digests
