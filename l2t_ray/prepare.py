"""Before workers start: the checkpoints' folder is tidied; every data set and source network is loaded and checked."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.errors import InputError
from l2t_ray.storage import File, files, storage, write_whole
from l2t_ray.work import Work, reads_source, whole

if TYPE_CHECKING:
    from l2t_ray.sweepfile import Sweep


def prepare_checkpoints(folder: File, done: Iterable[str]) -> None:
    """Makes the folder, and removes what killed launches left: parts of files, checkpoints of recorded runs.

    Args:
        folder: of the sweep's checkpoints.
        done: keys of finished runs.

    Raises:
        InputError: if it cannot be written to.
    """
    try:
        write_whole(folder / ".writable", b"")
        tidy_checkpoints(folder, done)
    except OSError as error:
        told = error.strerror or str(error).splitlines()[0]
        raise InputError(
            f"{folder}: execution.storage must be a folder that can be written to, got {told!r}"
        ) from error


def checkpoint_folder(sweep: "Sweep") -> File:
    """Where a sweep's checkpoints lie.

    Args:
        sweep: with its `execution.storage`.

    Returns:
        A folder that may not be there yet.
    """
    return storage(sweep.execution.storage) / sweep.name / "checkpoints"


def tidy_checkpoints(folder: File, done: Iterable[str]) -> None:
    """Removes parts of files, and the checkpoints of finished runs.

    Args:
        folder: that may be missing.
        done: keys of finished runs.
    """
    recorded = {"", *done}
    for file in files(folder):
        if file.name.split(".")[0] in recorded:
            file.unlink(missing_ok=True)


def prepare_inputs(runs: Iterable[Run], work: Work) -> dict[str, str]:
    """Downloads, decodes and checks what the runs read, once, before many processes want it.

    Args:
        runs: to train.
        work: how packs are trained.

    Returns:
        Key to what the run's images are.

    Raises:
        InputError: with a line for every data set that cannot be had or has too few images, and for every file of
            weights that is damaged, and for every name or index that is to be traced and does not exist.
    """
    runs = list(runs)
    problems: list[str] = []
    classes: dict[str, Sequence[str]] = {}
    digests = _load_data(runs, work, classes, problems)
    _load_sources(runs, classes, problems)
    if not problems:
        _look_at_traced(runs, work, problems)
    if problems:
        raise InputError(problems)
    return digests


def _load_data(
    runs: Iterable[Run], work: Work, classes: dict[str, Sequence[str]], problems: list[str]
) -> dict[str, str]:
    from l2t_ray.data import load_data
    from l2t_ray.validation import count_held_out

    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[whole(run.data).model_dump_json()].append(run)
    digests = {}
    for group in groups.values():
        try:
            data = load_data(whole(group[0].data), Path(work.data_dir), download=work.download)
            for settings in {run.data.model_dump_json(): run.data for run in group}.values():
                count_held_out(data.train_labels, data.classes, settings, name=data.name)
        except InputError as error:
            problems.extend(error.problems)
        else:
            digests.update({run.key: data.sha256 for run in group})
            classes.update({run.key: run.data.classes or data.classes for run in group})
    return digests


def _load_sources(runs: Iterable[Run], classes: Mapping[str, Sequence[str]], problems: list[str]) -> None:
    from l2t_ray.methods import Method
    from l2t_ray.models import load_source
    from l2t_ray.own_loss import check

    by_source: dict[str, dict[str, Run]] = defaultdict(dict)
    for run in runs:
        if reads_source(run):
            by_source[run.source.model_dump_json()].setdefault(run.model_copy(update={"seed": 0}).key, run)
    for cells in by_source.values():
        try:
            source = load_source(next(iter(cells.values())).source)
        except InputError as error:
            problems.extend(error.problems)
            continue
        for run in cells.values():
            method = registry.METHODS[run.method]
            try:
                if run.key in classes and isinstance(method, Method):  # others' images are refused already
                    check(method, run, source, classes[run.key])
            except InputError as error:
                problems.extend(told for told in error.problems if told not in problems)


def _look_at_traced(runs: Iterable[Run], work: Work, problems: list[str]) -> None:
    import torch

    from l2t_ray.inputs import inputs
    from l2t_ray.training import look_at_start, pack_shape

    seen = set()
    for run in runs:
        if run.traced and (asked := (pack_shape(run), run.traced)) not in seen:
            seen.add(asked)
            try:
                look_at_start(run, *inputs(work, run), torch.device("cpu"))
            except InputError as error:
                problems.extend(error.problems)
