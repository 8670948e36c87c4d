"""NVIDIA's Multi-Process Service (MPS): processes run on a card at the same time, instead of in turns.

On each node of a launch an actor of Ray keeps a daemon, which gets directories of its own, so that it is told from
everybody else's. It is stopped with the launch. Should the launch or the actor be killed, a watcher in a session of its
own sees the actor's end of a pipe close and stops it.
"""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from l2t_ray.errors import InputError
from l2t_ray.launch.worker.places import temporary

CONTROL = "nvidia-cuda-mps-control"
PIPE, LOG = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
ANSWER_S = 60.0
ROOM = 64  # bytes of the folder's name and of the longest name that the daemon gives a socket in it
Wish = Literal["auto", "off", "on"]

logger = logging.getLogger(__name__)

# waits until the launch has ended, however it ended, then stops the daemon and removes its folder
_WATCHER = """
import os, shutil, subprocess, sys
control, folder = sys.argv[1:3]
sys.stdin.buffer.read()
if os.path.isdir(folder):
    try:
        subprocess.run([control], input=b"quit\\n", timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
"""


def folder_of(launch: str) -> Path:
    """A launch's MPS folder on every node; short, because a socket's name has at most 107 characters."""
    return temporary(room=ROOM) / f"l2t-mps-{launch}"


def is_expected(wish: Wish) -> bool:
    """Whether MPS would run on this machine, as far as that can be told without starting it."""
    return PIPE in os.environ or (wish != "off" and shutil.which(CONTROL) is not None)


def join(launch: str) -> None:
    """Makes this process use its node's MPS daemon, if there is one; must be called before CUDA starts."""
    with contextlib.suppress(InputError):
        if launch and (folder := folder_of(launch)).is_dir():
            os.environ.update(_environment(folder))


@contextlib.contextmanager
def service(wish: Wish, *, n_gpus: int, folder: Path) -> Iterator[dict[str, str]]:
    """Runs MPS on this node while the block lasts, if it is wanted and available.

    Args:
        wish: `execution.mps`; "auto" goes on without MPS if it does not start.
        n_gpus: of this node.
        folder: for its directories; must not exist yet.

    Yields:
        The environment that workers of this node need; empty without MPS.

    Raises:
        InputError: if `wish` is "on" and MPS does not start.
    """
    control = shutil.which(CONTROL)
    if wish == "off" or PIPE in os.environ:  # somebody else runs one for us
        yield {}
        return
    problem = "no card" if not n_gpus else ("" if control else f"no {CONTROL} on the PATH")
    if problem or control is None:
        if wish == "on":
            raise InputError(f"execution.mps must be off or auto where there is {problem}, got on; change it")
        yield {}
        return
    folder.mkdir(mode=0o700)
    environment = _environment(folder)
    for path in environment.values():
        Path(path).mkdir()
    watcher = _watch(control, folder, environment)
    try:
        problem = _start(control, environment)
        if problem:
            if wish == "on":
                raise InputError(f"execution.mps: the service must start, got {problem!r}; set it to off or auto")
            logger.warning("without NVIDIA MPS, because it does not start: %s", problem)
        yield {} if problem else environment
    finally:
        _quit(control, environment)
        shutil.rmtree(folder, ignore_errors=True)
        assert watcher.stdin is not None
        watcher.stdin.close()
        try:
            watcher.wait(timeout=ANSWER_S)
        except subprocess.TimeoutExpired:  # it has nothing left to do
            watcher.kill()
            watcher.wait()


def _environment(folder: Path) -> dict[str, str]:
    return {PIPE: str(folder / "pipe"), LOG: str(folder / "log")}


def _watch(control: str, folder: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", _WATCHER, control, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
        start_new_session=True,  # Ctrl-C must reach the launch alone; the launch ends the watcher
    )


def _start(control: str, environment: dict[str, str]) -> str:
    """Starts the daemon; returns what went wrong, or an empty text."""
    try:
        subprocess.run(
            [control, "-d"],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        return (error.stderr or error.stdout or "").strip() or f"exit code {error.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return ""


def _quit(control: str, environment: dict[str, str]) -> None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):  # the daemon never started, or has ended
        subprocess.run(
            [control],
            input="quit\n",
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            check=False,
        )
