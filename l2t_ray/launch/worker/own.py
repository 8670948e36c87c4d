"""The user's own trainer in a worker: calls its function, or runs its command, with what the run asks for.

What it prints, sets in the environment or keeps in its modules, where it moves to and what it forks stays its own: the
next run in this process begins as this one did.
"""

import base64
import logging
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from l2t_ray.launch.worker import files, preemption
from l2t_ray.launch.worker.job import Work
from l2t_ray.launch.worker.trainer import Checked, Stop, StoppedError, Watch
from l2t_ray.trainer.command import run_command
from l2t_ray.trainer.context import Context
from l2t_ray.trainer.load import forget, forget_added, form_of, load
from l2t_ray.trainer.outcome import ResultError, divergence, results
from l2t_ray.trainer.output import NAME, Output
from l2t_ray.trainer.run import OwnRun
from l2t_ray.trainer.spec import Spec
from l2t_ray.training import checkpoint
from l2t_ray.training.device import device_name, limit_memory

NUMPY_SEEDS = 2**32
TAIL_CHARACTERS = 4000  # of the output, below a traceback

logger = logging.getLogger(__name__)


class Own:
    """The trainer of a launch, which `trainer:` of the sweep file names.

    Args:
        work: the launch's settings.
    """

    def __init__(self, work: Work) -> None:
        self._work, self.spec = work, Spec.model_validate_json(work.trainer)

    def check(self, runs: Sequence[OwnRun], later: Collection[str]) -> Checked:
        """The settings were checked when the file was read; nobody knows the data."""
        return Checked({run.key: "" for run in runs})

    def files(self, runs: Sequence[OwnRun]) -> Iterable[str]:
        """The files whose content counts."""
        return self.spec.digests

    def train(self, runs: Sequence[OwnRun], watch: Watch, stop: Stop) -> list[dict[str, Any]]:
        """Trains the runs one after another."""
        here = {path: files.local(self._work, path) for path in self.spec.digests}
        self.spec.check_digests(here)
        return [self._train(run, here, watch, stop) for run in runs]

    def _train(self, run: OwnRun, here: dict[str, str], watch: Watch, stop: Stop) -> dict[str, Any]:
        work, output, begun, process = self._work, Output(), time.perf_counter(), os.getpid()
        environment, path = dict(os.environ), [*sys.path]
        store, folder = work.checkpoint(run.key), Path(tempfile.mkdtemp(prefix="l2t-run-"))
        total = run.settings.get("epochs")
        watch(0, total if isinstance(total, int) else 0)
        earlier_s = [0.0]  # of the attempts that the state has behind it
        clock, warned = checkpoint.Clock(work.checkpoint_s), preemption.Watch()

        def report(epoch: int) -> None:
            clock.tick()
            with output.released():
                watch(epoch, total if isinstance(total, int) else 0)

        def save(content: bytes) -> None:
            wall_s = earlier_s[0] + time.perf_counter() - begun
            with clock:
                try:
                    checkpoint.save_bytes(store, f"{wall_s:020.6f}".encode() + content)
                except OSError as error:  # a full or lost disk costs the checkpoint, not the run
                    logger.warning("%s: no checkpoint was written, the training goes on: %s", store, error)
            if stop():
                raise StoppedError

        def restored() -> bytes | None:
            content = checkpoint.load_bytes(store)
            if content is None:
                return None
            earlier_s[0] = float(content[:20])
            return content[20:]

        context = Context(
            work.device or ("cpu" if device_name() == "cpu" else "cuda:0"),
            folder,
            work.threads,
            report=report,
            is_due=lambda: stop() or clock.is_due() or warned.is_urgent(),
            save=save,
            load=restored,
        )
        try:
            found, peak_bytes = self._carry_out(run, here, context, output, stop)
        except Exception as error:
            if output.text:
                error.add_note(f"What it has printed:\n{output.text[-TAIL_CHARACTERS:]}")
            raise
        finally:
            if os.getpid() != process:  # a fork of the trainer, which must not train the next run as well
                os._exit(0)
            if Path(work.folder).is_dir():
                os.chdir(work.folder)
            _restore(environment)
            forget_added(path)
            shutil.rmtree(folder, ignore_errors=True)
        reason = divergence(found, self.spec.metric)
        printed = {NAME: base64.b64encode(output.text.encode(errors="replace")).decode()} if output.text else {}
        return {
            "key": run.key,
            "status": "diverged" if reason else "finished",
            "reason": reason,
            "metrics": context.series(found),
            "wall_s": earlier_s[0] + time.perf_counter() - begun,
            "peak_bytes": peak_bytes,
            "artifacts": printed,
        }

    def _carry_out(
        self, run: OwnRun, here: dict[str, str], context: Context, output: Output, stop: Stop
    ) -> tuple[dict[str, float], int]:
        if self.spec.command is not None:
            values = {**run.settings, "seed": run.seed, "device": context.device, "threads": context.threads}
            done = run_command(self.spec, values, context.folder, output, threads=context.threads, is_stopped=stop)
            if done is None:
                raise StoppedError
            return done
        with output.captured():
            forget(self.spec, here)
            function = load(self.spec, here)
            form = form_of(self.spec, function)
            limit_memory(self._work.fraction)
            seed_all(run.seed, context.threads)
            try:
                returned = function(form.build(run.settings), run.seed, context)
            except SystemExit as error:
                raise ResultError(f"{self.spec.name}: must return its results, got sys.exit({error.code!r})") from error
            except BaseException as error:
                if isinstance(error, Exception | KeyboardInterrupt):
                    raise
                raise ResultError(f"{self.spec.name}: must return its results, got {type(error).__name__}") from error
        return results(returned, self.spec.metric, self.spec.name, output.write), _peak_bytes()


def _restore(environment: dict[str, str]) -> None:
    """Undoes what a run has changed in the environment, and nothing else, since other threads may read it."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def seed_all(seed: int, threads: int) -> None:
    """Seeds Python's generator, and NumPy's and torch's where they are loaded, which a process keeps between runs."""
    random.seed(seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(seed % NUMPY_SEEDS)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()


def _peak_bytes() -> int:
    """The peak of a card's allocator, if torch has used one, else of this process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and (peak := torch.cuda.max_memory_reserved()):
        return int(peak)
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes
