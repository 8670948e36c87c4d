"""What a worker needs for a pack: its images, its source network, and what trains it. The last ones stay in memory."""

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from l2t_ray import depot
from l2t_ray.config import Data, Run, Source
from l2t_ray.data import load_data
from l2t_ray.models import Backbone, load_source
from l2t_ray.work import Work, reads_source, whole


def trainer(work: Work) -> Callable[..., list[Any]]:
    """What trains a pack: `training.train`, unless a benchmark has set another.

    Args:
        work: the launch's settings.

    Returns:
        A function with the signature of `training.train`.
    """
    module, name = work.trainer.split(":")
    found: Callable[..., list[Any]] = getattr(importlib.import_module(module), name)
    return found


def inputs(work: Work, run: Run) -> tuple[Any, Backbone | None]:
    """The data set and the source network of a run; the last two of each stay in memory.

    Args:
        work: the launch's settings.
        run: one of a pack.

    Returns:
        Both on the CPU; no network for a method that reads none.
    """
    data = _load_data(whole(run.data).model_dump_json(), depot.data_dir(work, run), download=work.download)
    if not reads_source(run):
        return data, None
    settings = run.source
    if settings.weights is not None:
        settings = settings.model_copy(update={"weights": depot.local(work, settings.weights)})
    return data, _load_source(settings.model_dump_json(), run.training.precision)


@functools.lru_cache(maxsize=2)
def _load_data(settings: str, data_dir: str, *, download: bool) -> Any:
    return load_data(Data.model_validate_json(settings), Path(data_dir), download=download)


@functools.lru_cache(maxsize=2)
def _load_source(settings: str, precision: str) -> Backbone:  # the training casts it in place: one for each precision
    return load_source(Source.model_validate_json(settings))
