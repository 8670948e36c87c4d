"""Measures real steps of one shape in a fresh process: seconds, bytes, start-up time."""

import itertools
import math
import os
import resource
import statistics
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.data.place import fits
from l2t_ray.data.subsets import count_samples
from l2t_ray.launch.placement.measurements import Speed
from l2t_ray.launch.worker import files, mps
from l2t_ray.launch.worker.inputs import inputs
from l2t_ray.launch.worker.job import Work, decode
from l2t_ray.training.device import context_bytes, is_out_of_memory
from l2t_ray.training.pack import train
from l2t_ray.training.run_training import EVALUATION_BATCH

STEPS = 2  # at most, of an epoch
FIRST_EPOCHS = 3  # the first warms up, the last ends with an evaluation
ENOUGH_S = 1.0  # at least, of measured epochs
MOST_EPOCHS = 200


class Prober:
    """A process that measures one shape.

    Args:
        work: JSON of `Work`.
        runs: JSON of `encode`, of one shape: as many as the largest pack to measure.
        begun: time.time() when the process was asked for.
    """

    def __init__(self, work: str, runs: str, begun: float) -> None:
        self.work = Work.from_json(work)
        if Path(self.work.folder).is_dir():
            os.chdir(self.work.folder)
        mps.join(self.work.mps)
        registry.load([Path(files.local(self.work, path)) for path in self.work.methods])
        torch.set_num_threads(self.work.threads)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        runs_given = [run for run in decode(runs) if isinstance(run, Run)]
        data, self.source = inputs(self.work, runs_given[0])
        validating = runs_given[0].data.validation_per_class is not None
        self.n_test = EVALUATION_BATCH if validating else len(data.test_labels)  # validation images are few
        counted = count_samples(data.train_labels, data.classes, runs_given[0].data.samples_per_class, name=data.name)
        self.n_images = int(sum(counted))
        self.runs = [_smaller(run, self.n_images, len(data.classes)) for run in runs_given]
        counted = count_samples(data.train_labels, data.classes, self.runs[0].data.samples_per_class, name=data.name)
        self.n_probed = int(sum(counted))
        self.data = replace(
            data, test_images=data.test_images[:EVALUATION_BATCH], test_labels=data.test_labels[:EVALUATION_BATCH]
        )
        self.begun = begun
        self.context_bytes = context_bytes(self.device)

    def ready(self) -> dict[str, Any]:
        """Answers once everything is loaded: {"start_s", "context_bytes"}."""
        return {"start_s": time.time() - self.begun, "context_bytes": self.context_bytes}

    def speed(self, pack: int, budget_s: float = 0.0) -> dict[str, Any] | None:
        """`Speed` of packs of K runs, for whole epochs and the whole test set; None if memory ran out."""
        try:
            marks = self._train(pack, FIRST_EPOCHS)
            epoch_s = marks[1]
            if epoch_s < ENOUGH_S / 2:
                n_epochs = min(MOST_EPOCHS, 2 + math.ceil(ENOUGH_S / max(epoch_s, ENOUGH_S / MOST_EPOCHS)))
                marks = self._train(pack, n_epochs)
                epoch_s = min(marks[1:-1])  # other processes only add time
        except Exception as error:
            if is_out_of_memory(error):
                return None
            raise
        batch = self.runs[0].training.batch_size
        n_steps = math.ceil(self.n_images / batch) / math.ceil(self.n_probed / batch)
        n_evaluations = math.ceil(self.n_test / EVALUATION_BATCH)
        more_bytes = (self.n_images - self.n_probed) * self.data.train_images[0].nbytes
        if not fits(more_bytes, self.device):  # they stay in the host's memory
            more_bytes = 0
        speed = Speed(
            pack=pack,
            epoch_s=epoch_s * n_steps,
            evaluation_s=max(0.0, marks[-1] - epoch_s) * n_evaluations,
            peak_bytes=_peak_bytes(self.device) + more_bytes * pack,
            prepare_s=max(0.0, marks[0] - epoch_s),
        )
        return asdict(speed)

    def pace(self, pack: int, seconds: float) -> float:
        """Seconds of an epoch while other processes train too."""
        end, marks = time.monotonic() + seconds, []
        while time.monotonic() < end:
            marks += self._train(pack, FIRST_EPOCHS * 4)[1:-1]
        return statistics.median(marks)

    def _train(self, pack: int, n_epochs: int) -> list[float]:
        """The seconds of each epoch."""
        runs = [_with_epochs(run, n_epochs) for run in self.runs[:pack]]
        marks = [time.perf_counter()]
        train(runs, self.data, self.source, device=self.device, on_epoch=lambda *_: marks.append(time.perf_counter()))
        if len(marks) <= n_epochs:  # the trainer reports no epochs, or diverged early
            whole_s = time.perf_counter() - marks[0]
            return [whole_s / n_epochs] * n_epochs
        return [later - earlier for earlier, later in itertools.pairwise(marks)]


def _smaller(run: Run, n_images: int, n_classes: int) -> Run:
    """The same run with at most `STEPS` steps an epoch."""
    most = STEPS * run.training.batch_size
    if n_images <= most:
        return run
    data = run.data.model_copy(update={"samples_per_class": max(1, most // n_classes)})
    return run.model_copy(update={"data": data})


def _with_epochs(run: Run, n_epochs: int) -> Run:
    training = run.training.model_copy(update={"epochs": n_epochs})
    record = run.record.model_copy(update={"evaluations": 0})
    return run.model_copy(update={"training": training, "record": record})


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes
