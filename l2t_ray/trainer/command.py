"""Runs a trainer that is a command: in a folder of its own, in a process group that ends with this process.

The folder has a link to everything in the working folder, so that a script finds its files there, and what it writes
is its own.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from l2t_ray.trainer.outcome import ResultError, results
from l2t_ray.trainer.output import Output
from l2t_ray.trainer.spec import Spec, filled

LOOK_S = (0.002, 0.05)  # between two looks at the process, at first and at last
DRAIN_S = 5.0  # for the rest of its output
NOT_LINKED = (".l2t", "mlruns", "mlartifacts")
LAST_CHARACTERS = 300
GUARD = 'read _; kill -s KILL -- "-$1"'  # its standard input ends with this process
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
    words, place = [filled(word, values) for word in spec.words], filled(spec.result, values)
    _link(folder, Path(place).parts[0])
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PATH": search_path(), "OMP_NUM_THREADS": str(threads)}
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
    with _guarded(process.pid):
        try:
            code, peak_bytes = _wait(process.pid, is_stopped)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # also what it has left in the background
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
    return results(_content(folder / place, place, spec.metric), spec.metric, place), peak_bytes


def _link(folder: Path, own: str) -> None:
    """Links the working folder's entries, but not those that runs write."""
    for entry in os.scandir():
        if entry.name not in {*NOT_LINKED, own} and not entry.name.startswith("mlflow.db"):
            (folder / entry.name).symlink_to(Path(entry.path).resolve())


@contextlib.contextmanager
def _guarded(group: int) -> Iterator[None]:
    """Has a process group killed when this process dies in the block, however it dies."""
    guard = subprocess.Popen(
        ["/bin/sh", "-c", GUARD, "guard", str(group)], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        guard.kill()
        guard.wait()
        assert guard.stdin is not None
        guard.stdin.close()


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


def _content(file: Path, place: str, metric: str) -> Any:
    """The metric and the numbers of a file of results; what else it holds is left out."""
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        there = ", ".join(sorted(path.name for path in file.parent.iterdir() if not path.is_symlink())[:8]) or "nothing"
        rule = f"{place}: must be written by the command, in the folder where it runs"
        raise ResultError(f"{rule}, got {there}; correct `result:`") from None
    except (OSError, ValueError) as error:
        raise ResultError(f"{place}: must be a JSON file of names and numbers, got {error}; correct it") from error
    if not isinstance(content, dict):
        return content
    return {name: value for name, value in content.items() if name == metric or type(value) in {int, float}}
