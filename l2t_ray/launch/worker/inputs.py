"""The images and the source network of a run of the built-in trainer; the last two of each stay in memory."""

import functools
from pathlib import Path
from typing import Any

from l2t_ray.config import Data, Run, Source, reads_source
from l2t_ray.data.load import load_data
from l2t_ray.launch.worker import files
from l2t_ray.launch.worker.job import Work, whole
from l2t_ray.models import Backbone, load_source


def inputs(work: Work, run: Run, *, with_source: bool = True) -> tuple[Any, Backbone | None]:
    """The data set and source network of a run, on the CPU; the last two of each stay in memory."""
    data = _load_data(whole(run.data).model_dump_json(), files.data_dir(work, run), download=work.download)
    if not with_source or not reads_source(run):
        return data, None
    settings = run.source
    if settings.file is not None:
        settings = settings.model_copy(update={"weights": files.local_weights(work, settings.file)})
    return data, _load_source(settings.model_dump_json(), run.training.precision, run.data.image_size)


@functools.lru_cache(maxsize=2)
def _load_data(settings: str, data_dir: str, *, download: bool) -> Any:
    return load_data(Data.model_validate_json(settings), Path(data_dir), download=download)


@functools.lru_cache(maxsize=2)
def _load_source(
    settings: str, precision: str, image_size: int
) -> Backbone:  # training casts it in place, so each precision has its own
    return load_source(Source.model_validate_json(settings), image_size)
