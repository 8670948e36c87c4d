"""What tests of whole launches share: a method that raises, the command line as a function and as a process."""

import contextlib
import io
import os
import subprocess
import sys

import psutil
import pytest

from tests.support.places import ROOT
from tests.support.waiting import MOST_S, wait_for

OF_RAY = [
    # Ray leaves sockets and pipes of its own processes to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
STARTED = []
BOOM = """
from dataclasses import dataclass
from l2t_ray.methods import Method
from l2t_ray.registry import register

@dataclass(frozen=True)
class Boom(Method):
    def loss(self, extra, batch, options):
        if len(batch.labels) > 2:  # a launch tries two images first
            raise ValueError("boom, says the method")
        return batch.logits.sum() * 0

register(Boom("boom", uses=frozenset({"transfer.beta"})))
"""


def call(main, *arguments):
    """Exit code, stdout, stderr of a command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*arguments])
    return code, out.getvalue(), err.getvalue()


def start(folder, *arguments):
    """`python -m l2t_ray.sweep` in a folder, as a process; nobody reads its stdout and stderr until it has ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "l2t_ray.sweep", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    STARTED.append(process)
    return process


def end_all():
    """Ends what a test that has failed has left, with all below it."""
    for process in STARTED:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.kill()
            process.kill()
            process.communicate()
    STARTED.clear()


def end(process, number):
    """Ends a launch by a signal; returns its stderr when nothing below it is left, which would train on."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, err = process.communicate(timeout=MOST_S)
    wait_for(lambda: all(is_over(one) for one in family), told=lambda: f"{family}")
    return err


def is_over(process):
    """Whether a process has ended, be it that nobody has asked how."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def said(process):
    """A function: what a launch has said, once it has ended."""
    return lambda: process.stderr.read() if process.poll() is not None else "it still runs"


def titled(word, below):
    """Processes below one whose title has a word."""
    found = []
    for process in psutil.Process(below).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found


def refuse_ray(monkeypatch):
    """Where Ray is asked for, the test fails."""

    def fail(*_, **__):
        pytest.fail("Ray was asked for")

    monkeypatch.setattr("l2t_ray.launch.session.cluster", fail)
