"""How much room the networks and predictions take that a sweep keeps."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

from l2t_ray.config import TARGET, Data, Run
from l2t_ray.errors import InputError, count
from l2t_ray.registry import DATA_SETS
from l2t_ray.run import AnyRun

BYTES = 4  # of a parameter and of a probability
COLUMN_BYTES = 330  # of a column of predictions, besides its values: measured on files of 6 to 10,000 images


def kept_bytes(runs: Iterable[AnyRun]) -> dict[str, tuple[int, int | None]]:
    """Returns what the runs keep: by file, how many and about how many bytes together; None where nobody knows."""
    found: dict[str, tuple[int, int | None]] = {}
    images_of, parameters = cache(_images_of), dict[str, int]()
    for run in runs:
        if not isinstance(run, Run) or not run.kept:
            continue
        counts = _count_images(run.data, images_of)
        for name in run.kept:
            n, total = found.get(name, (0, 0))
            if counts is None or total is None:
                found[name] = n + 1, None
                continue
            n_test, n_classes = counts
            if name == TARGET:
                target = f"{run.target!r} {n_classes}"
                if target not in parameters:
                    parameters[target] = _count_parameters(run, n_classes)
                found[name] = n + 1, total + BYTES * parameters[target]
            else:
                found[name] = n + 1, total + predictions_bytes(n_test, n_classes)
    return found


def kept_text(runs: Iterable[AnyRun]) -> str:
    """Returns that in a line for the plan; empty where nothing is kept."""
    found = kept_bytes(runs)
    parts = [
        f"{name} of {count(n, 'run')}" + ("" if size is None else f", about {_room(size / n)} each")
        for name, (n, size) in found.items()
    ]
    sizes = [size for _, size in found.values() if size is not None]
    total = f"; {_room(sum(sizes))} in the ledger's artifacts" if len(sizes) == len(found) else ""
    return f"kept: {'; '.join(parts)}{total}" if parts else ""


def predictions_bytes(n_test: int, n_classes: int) -> int:
    """Returns about how large `predictions.parquet` is: it holds every value once, and for each row which one."""
    row_bytes = n_classes * (BYTES + math.log2(max(2, n_test)) / 8)
    return round((n_classes + 2) * COLUMN_BYTES + n_test * row_bytes)


def _room(n_bytes: float) -> str:
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.1f} kB"


def _count_images(
    data: Data, images_of: Callable[[str, float | None], Mapping[str, int] | None]
) -> tuple[int, int] | None:
    """How many test images and classes a run has."""
    if (n_classes := DATA_SETS[data.name].n_classes) is not None:
        n_chosen = len(data.classes or ()) or n_classes
        return DATA_SETS[data.name].n_test * n_chosen // n_classes, n_chosen
    if (by_class := images_of(str(data.path), data.test_fraction)) is None:
        return None
    chosen = data.classes or by_class
    return sum(by_class.get(name, 0) for name in chosen), len(chosen)


def _images_of(path: str, test_fraction: float | None) -> Mapping[str, int] | None:
    """The test images of each class of an image folder, by the names of its files."""
    from l2t_ray.data.layout import files_by_split, opened

    try:
        with opened(Path(path)) as archive:
            classes, files = files_by_split(archive, test_fraction)
    except InputError:  # a launch refuses it, with the reason
        return None
    return {**dict.fromkeys(classes, 0), **Counter(files["test"].values())}


def _count_parameters(run: Run, n_classes: int) -> int:
    import torch

    from l2t_ray.models import build_target

    theta = build_target(run.target, n_classes).initial_theta(torch.Generator())
    return sum(tensor.numel() for tensor in theta.values())
