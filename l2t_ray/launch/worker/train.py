"""Which trainer a launch has, and how a worker trains a pack with it. No Ray, no MLflow; no torch by itself."""

import os
from pathlib import Path
from typing import Any

from l2t_ray.launch.worker.job import Work, decode
from l2t_ray.launch.worker.trainer import Stop, StoppedError, Trainer, Watch, describe, trace

__all__ = ["StoppedError", "describe", "trace", "train_pack", "trainer_of"]


def trainer_of(work: Work) -> Trainer:
    """The trainer of a launch."""
    if work.trainer:
        from l2t_ray.launch.worker.own import Own

        return Own(work)
    from l2t_ray.launch.worker.transfer import Transfer

    return Transfer(work)


def train_pack(work: Work, pack: str, watch: Watch, stop: Stop = lambda: False) -> list[dict[str, Any]]:
    """Trains one pack, from its checkpoints if there are any.

    Args:
        work: the launch's settings.
        pack: of `job.encode`.
        watch: receives the epochs done and their total.
        stop: whether to end after the current epoch.

    Returns:
        `Outcome.to_json()` of every run.
    """
    if Path(work.folder).is_dir():
        os.chdir(work.folder)
    trainer = trainer_of(work)  # first: it loads the methods that `decode` needs
    return trainer.train(decode(pack), watch, stop)
