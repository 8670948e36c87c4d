"""Runs a trainer that is a command, in a folder of its own; all that it has started ends with it or this process."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from l2t_ray.trainer.folder import RunFolder
from l2t_ray.trainer.outcome import ResultError, results
from l2t_ray.trainer.output import Output
from l2t_ray.trainer.spec import Spec, filled, is_within

LOOK_S = (0.002, 0.05)  # between two looks at the process, at first and at last
DRAIN_S = 5.0  # for the rest of its output
LAST_CHARACTERS = 300
MARK = "L2T_RUN_FOLDER"  # in the environment of all that a run starts
GUARD = """read _  # its standard input ends with this process
kill -s KILL -- "-$1"
for file in /proc/[0-9]*/environ; do
    grep -qszxF -- "$2" "$file" && pid=${file%/environ} && kill -s KILL "${pid#/proc/}"
done"""
CHUNK_BYTES = 1 << 16


class CommandError(RuntimeError):
    """The command ended with an error; the message has its last line."""


def search_path() -> str:
    """Where programs are looked for: beside this Python first, so that `python` is this one."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def run_command(
    spec: Spec,
    values: Mapping[str, Any],
    folder: Path,
    output: Output,
    *,
    threads: int,
    is_stopped: Callable[[], bool],
) -> tuple[dict[str, float], int] | None:
    """Runs the command once.

    Args:
        spec: of the trainer.
        values: of the placeholders.
        folder: of this run, empty.
        output: takes what it prints.
        threads: of the CPU, for `OMP_NUM_THREADS`.
        is_stopped: whether to end it.

    Returns:
        Its results and the peak of its memory in bytes; None if it was stopped.

    Raises:
        CommandError: if it ends with another exit code than 0.
        MemoryError: if it was killed by SIGKILL, as the kernel does when memory runs out.
        ResultError: if its file of results is missing or wrong.
    """
    assert spec.result is not None
    words, place = [_reachable(filled(word, values)) for word in spec.words], filled(spec.result, values)
    if not is_within(place):
        rule = f"{place}: the file of results must be in the folder of its run, because runs share any other"
        raise ResultError(f"{rule}; correct `result:`, or the settings that it names")
    around = RunFolder(folder, Path(place).parts[0], spec.digests)
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PATH": search_path(), "OMP_NUM_THREADS": str(threads), MARK: str(folder)}
    program = shutil.which(words[0], path=environment["PATH"]) or words[0]
    process = subprocess.Popen(
        [program, *words[1:]],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    reader = threading.Thread(target=_read, args=(process.stdout, output), daemon=True)
    reader.start()
    with _guarded(process.pid, folder):
        try:
            code, peak_bytes = _wait(process.pid, is_stopped)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # also what it has left in the background
            _end_marked(folder)
    process.returncode = 0 if code is None else code
    reader.join(DRAIN_S)
    if code is None:
        return None
    if code == -signal.SIGKILL:
        raise MemoryError("the command was killed (SIGKILL), most likely because memory ran out")
    if code:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        last = next((line for line in reversed(output.text.splitlines()) if line.strip()), "it printed nothing")
        raise CommandError(f"the command {how}: {last.strip()[-LAST_CHARACTERS:]}")
    around.check()
    found = _content(folder / place, place, spec.metric, around.names)
    return results(found, spec.metric, place, output.write), peak_bytes


def _reachable(word: str) -> str:
    """A path above the working folder as a whole one, because the command runs elsewhere."""
    return os.path.abspath(word) if word.startswith("..") and os.path.lexists(word) else word  # noqa: PTH100  links stay


@contextlib.contextmanager
def _guarded(group: int, folder: Path) -> Iterator[None]:
    """Has a process group, and all that a run has started, killed when this process dies in the block, however."""
    guard = subprocess.Popen(
        ["/bin/sh", "-c", GUARD, "guard", str(group), f"{MARK}={folder}"], stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        guard.kill()
        guard.wait()
        assert guard.stdin is not None
        guard.stdin.close()


def _end_marked(folder: Path) -> None:
    """Kills what a run has started in process groups of its own, as torchrun does."""
    import psutil

    found = True
    while found:  # one may have started another while we looked
        found = False
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                    process.kill()
                    found = True


def _wait(pid: int, is_stopped: Callable[[], bool]) -> tuple[int | None, int]:
    """Waits for a process; returns its exit code, None where it was stopped, and its peak resident bytes."""
    pause_s, stopped = LOOK_S[0], False
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            unit_bytes = 1 if sys.platform == "darwin" else 1024
            return None if stopped else os.waitstatus_to_exitcode(status), usage.ru_maxrss * unit_bytes
        if not stopped and is_stopped():
            stopped = True
            os.killpg(pid, signal.SIGKILL)
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LOOK_S[1])


def _read(stream: IO[bytes], output: Output) -> None:
    while chunk := stream.read1(CHUNK_BYTES):  # type: ignore[attr-defined]
        output.write(chunk.decode(errors="replace"))
    stream.close()


def _content(file: Path, place: str, metric: str, not_its: Collection[str] = ()) -> Any:
    """The metric and the numbers of a file of results, and nothing else; `not_its`: names that the run has not made."""
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        there = file.parent.iterdir() if file.parent.is_dir() else []
        names = ", ".join(sorted(path.name for path in there if path.name not in not_its)[:8]) or "nothing"
        rule = f"{place}: must be written by the command, in the folder where it runs"
        raise ResultError(f"{rule}, got {names}; correct `result:`") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ResultError(f"{place}: must be a JSON file of names and numbers, got {error}; correct it") from error
    if not isinstance(content, dict) or metric not in content:
        return content
    return {name: value for name, value in content.items() if name == metric or type(value) in {int, float}}
