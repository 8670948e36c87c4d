"""Checks everything that runs of the built-in trainer read, before anything is written: images, weights, methods."""

import math
import os
import traceback
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from l2t_ray import registry
from l2t_ray.config import Augment, Record, Run, Trace, pack_shape, reads_source, weights_files
from l2t_ray.data.fetch import fetch
from l2t_ray.errors import TRACEBACK, InputError, say
from l2t_ray.launch.worker.job import Work, whole
from l2t_ray.launch.worker.trainer import Checked, describe
from l2t_ray.published import weights_at

MOST_OF_THE_START = 0.1  # with 0.3 of its first running statistics a MobileNetV3 that had learned was at chance
EPOCHS = 1000  # of which a batch in the first and in the last is tried: a method may train in stages


def check_inputs(runs: Iterable[Run], work: Work, later: Collection[str]) -> Checked:
    """Downloads, decodes and checks everything that the runs read, once, before many processes need it.

    Args:
        runs: to train.
        work: how packs are trained.
        later: files of weights that are trained first.

    Returns:
        The digests of the runs' images, and the size of a state.

    Raises:
        InputError: with a line for every missing or too small data set, every damaged file of weights, and every traced
            name or index that does not exist.
    """
    runs = list(runs)
    problems: list[str] = []
    classes: dict[str, Sequence[str]] = {}
    n_images: dict[str, int] = {}
    digests = _load_data(runs, work, classes, n_images, problems)
    present = [run for run in runs if run.source.weights not in later or not reads_source(run)]
    _fetch_weights(present, problems, download=work.download)
    _load_sources(present, classes, problems)
    if not problems:
        _look_at_traced(present, work, problems)
    state_bytes = 0 if problems else _try_batches(runs, n_images, work, later, problems)
    if problems:
        raise InputError(problems)
    for line in _slow_statistics(runs, classes):
        say(line)
    return Checked(digests, state_bytes)


def _load_data(
    runs: Iterable[Run],
    work: Work,
    classes: dict[str, Sequence[str]],
    n_images: dict[str, int],
    problems: list[str],
) -> dict[str, str]:
    from l2t_ray.data.load import load_data
    from l2t_ray.data.subsets import count_held_out

    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[whole(run.data).model_dump_json()].append(run)
    digests = {}
    for group in groups.values():
        try:
            data = load_data(whole(group[0].data), Path(work.data_dir), download=work.download)
            counts = {
                asked: sum(count_held_out(data.train_labels, data.classes, settings, name=data.name))
                for asked, settings in {run.data.model_dump_json(): run.data for run in group}.items()
            }
        except InputError as error:
            problems.extend(error.problems)
        else:
            digests.update({run.key: data.sha256 for run in group})
            n_images.update({run.key: counts[run.data.model_dump_json()] for run in group})
            classes.update({run.key: run.data.classes or data.classes for run in group})
    return digests


def _fetch_weights(runs: Iterable[Run], problems: list[str], *, download: bool) -> None:
    for path in dict.fromkeys(path for run in runs for path in weights_files(run)):
        if item := weights_at(path):
            try:
                fetch(item, Path(path), download=download)
            except InputError as error:
                problems.extend(error.problems)


def _load_sources(runs: Iterable[Run], classes: Mapping[str, Sequence[str]], problems: list[str]) -> None:
    from l2t_ray.methods import Method
    from l2t_ray.methods.custom_loss import check
    from l2t_ray.models import load_source

    by_source: dict[str, dict[str, Run]] = defaultdict(dict)
    for run in runs:
        if reads_source(run):
            by_source[f"{run.data.image_size} {run.source.model_dump_json()}"].setdefault(
                run.model_copy(update={"seed": 0}).key, run
            )
    for cells in by_source.values():
        try:
            first = next(iter(cells.values()))
            if first.source.file and weights_at(first.source.file) and not Path(first.source.file).is_file():
                continue  # told already
            source = load_source(first.source, first.data.image_size)
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

    from l2t_ray.launch.worker.inputs import inputs
    from l2t_ray.training.pack import look_at_start

    seen = set()
    for run in runs:
        if run.traced and (asked := (pack_shape(run), run.traced)) not in seen:
            seen.add(asked)
            try:
                look_at_start(run, *inputs(work, run), torch.device("cpu"))
            except InputError as error:
                problems.extend(error.problems)


def _try_batches(
    runs: Iterable[Run], n_images: Mapping[str, int], work: Work, later: Collection[str], problems: list[str]
) -> int:
    """Trains every kind of run on two images, or one, so that what cannot is told now; returns the bytes of a state."""
    import torch

    from l2t_ray.launch.worker.inputs import inputs
    from l2t_ray.models import build
    from l2t_ray.training.device import is_out_of_memory
    from l2t_ray.training.pack import try_batch

    kinds: dict[tuple[str, bool], Run] = {}
    state_bytes = 0
    for run in runs:
        leaves_one = n_images.get(run.key, 0) % run.training.batch_size == 1
        kinds.setdefault((pack_shape(_smallest(run)), leaves_one), run)
    # the last sets are kept
    for (_, leaves_one), run in sorted(kinds.items(), key=lambda kind: whole(kind[1].data).model_dump_json()):
        untrained = reads_source(run) and run.source.weights in later
        try:
            if untrained:
                data, source = inputs(work, run, with_source=False)
                n_classes, settings = len(data.classes), run.source
                source = build(settings.arch, settings.width, n_classes, run.data.image_size, settings.levels)
                source = source.requires_grad_(False).eval()
            else:
                data, source = inputs(work, run)
            found = try_batch(_smallest(run), data, source, torch.device("cpu"), leaves_one=leaves_one)
            state_bytes = max(state_bytes, found)
        except InputError as error:
            if not untrained:  # a method may ask for what only the trained source has
                problems.extend(told for told in error.problems if told not in problems)
        except Exception as error:  # of the user's own code: told below
            if is_out_of_memory(error):
                continue
            if os.environ.get(TRACEBACK):
                traceback.print_exc()
            rule = f"method {run.method}: must train a batch of {run.data.name}, got {describe(error)}"
            problems.append(f"{rule}; correct it ({TRACEBACK}=1 shows the whole error)")
    return state_bytes


def _slow_statistics(runs: Iterable[Run], classes: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yields where batch norm's running statistics, by which predictions are made, will still be near their start."""
    import torch

    from l2t_ray.methods import Method
    from l2t_ray.models import BatchNorm, build

    seen = set()
    for run in runs:
        n, target, method = run.data.samples_per_class, run.target, registry.METHODS[run.method]
        starts_from_source = isinstance(method, Method) and type(method).start is not Method.start
        if target.file or starts_from_source or not isinstance(n, int):
            continue
        n_steps = run.training.epochs * math.ceil(n * len(classes[run.key]) / run.training.batch_size)
        if (target.arch, n_steps) in seen:
            continue
        seen.add((target.arch, n_steps))
        with torch.device("meta"):
            network = build(target.arch, target.width, 1, run.data.image_size, target.levels)
        momenta = [part.momentum for part in network.modules() if isinstance(part, BatchNorm) and part.momentum]
        left = (1 - min(momenta, default=1.0)) ** n_steps
        if left > MOST_OF_THE_START:
            yield (
                f"target.arch {target.arch}: after {n_steps} steps its batch norm's running statistics are still "
                f"{100 * left:.0f} % initial values (momentum {min(momenta):g}), so it may predict at chance; "
                "train longer, or start from `target: {weights: ...}`"
            )


def _smallest(run: Run) -> Run:
    """A run with the same network, method and data set that needs next to nothing; equal for runs that differ less."""
    data = run.data.model_copy(update={"samples_per_class": 1, "validation_per_class": None})
    training = run.training.model_copy(update={"batch_size": 2, "epochs": EPOCHS})
    settings = {
        "seed": 0,
        "data": data,
        "training": training,
        "record": Record(),
        "augment": Augment(mixup=float(run.augment.mixup > 0)),  # a method's loss sees other labels then
        "trace": Trace(),
    }
    return run.model_copy(update=settings)
