"""Draws a run's training images, and its validation images, on which a search measures it.

Validation images are training images that the run does not train on. They come from random streams of their own, so
that the training subset stays the same with and without them; the test set is not used.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from l2t_ray.config import Data
from l2t_ray.data.names import composed
from l2t_ray.data.streams import stream
from l2t_ray.errors import InputError, suggest

OTHERS = "*"  # stands for all other classes in a map of class to number


def count_held_out(labels: Tensor, classes: Sequence[str], settings: Data, *, name: str = "this data") -> list[int]:
    """Returns how many images of each class are trained on, and checks that the validation images fit beside them.

    Args:
        labels: int64 [N] of the training images.
        classes: their names.
        settings: of a run.
        name: of the data set, for messages.

    Raises:
        InputError: if a class has too few images for both.
    """
    counts = count_samples(labels, classes, settings.samples_per_class, name=name)
    wanted = settings.validation_per_class or 0
    available = torch.bincount(labels, minlength=len(classes)).tolist()
    problems = [
        f"data.validation_per_class must be <= {n_images - count} for class {title!r} of {name}, which has {n_images} "
        f"training images of which {count} are trained on, got {wanted}; ask for fewer"
        for title, n_images, count in zip(classes, available, counts, strict=True)
        if count + wanted > n_images
    ]
    if problems:
        raise InputError(problems)
    return counts


def validation_subset(labels: Tensor, classes: Sequence[str], settings: Data, seed: int) -> Tensor:
    """Draws `validation_per_class` validation images of each class from the stream "validation.<class>".

    Each class' images are put in a random order, and those that the run trains on are skipped. So runs with 5 and with
    10 training images a class share nearly all of their validation images.

    Args:
        labels: int64 [N] of the training images.
        classes: their names.
        settings: of the run, with `validation_per_class`.
        seed: the run's.

    Returns:
        int64 [C * validation_per_class] indices into the training images, on the CPU: class by class, in the order of
        drawing.

    Raises:
        InputError: if a class has too few images.
    """
    labels = labels.cpu()
    count_held_out(labels, classes, settings)
    is_trained = torch.zeros(len(labels), dtype=torch.bool)
    is_trained[stratified_subset(labels, classes, settings.samples_per_class, seed)] = True
    drawn = []
    for number, title in enumerate(classes):
        members = (labels == number).nonzero().flatten()
        order = members[torch.randperm(len(members), generator=stream(seed, f"validation.{title}"))]
        drawn.append(order[~is_trained[order]][: settings.validation_per_class or 0])
    return torch.cat(drawn)


def count_samples(
    labels: Tensor,
    classes: Sequence[str],
    samples_per_class: int | Mapping[str, int] | None,
    *,
    name: str = "this data",
) -> list[int]:
    """Returns how many training images of each class a run asks for.

    Args:
        labels: int64 [N] of the training images.
        classes: their names.
        samples_per_class: a number; a map of class to number, '*' for all others; None for all. A name may be in any
            Unicode form.
        name: of the data set, for messages.

    Raises:
        InputError: if a class has fewer, a name is not a class, or a class has no number.
    """
    available = torch.bincount(labels, minlength=len(classes)).tolist()
    if samples_per_class is None:
        return available
    asked = samples_per_class if isinstance(samples_per_class, Mapping) else {OTHERS: samples_per_class}
    wanted = {composed(title): number for title, number in asked.items()}
    place = "data.samples_per_class"
    problems = [unknown_class(place, key, classes, name) for key in wanted if key not in {OTHERS, *classes}]
    if len(wanted) < len(asked):
        problems.append(f"{place} must name each class once, got one in two Unicode forms; remove one")
    counts = []
    for title, n_images in zip(classes, available, strict=True):
        count = wanted.get(title, wanted.get(OTHERS))
        if count is None:
            problems.append(f"{place} must give a number for every class of {name}, or for '*', {title!r} has none")
        elif not 1 <= count <= n_images:
            problems.append(
                f"{place} must be >= 1 and <= {n_images} for class {title!r} of {name}, got {count}; "
                "ask for fewer, or leave the class out with data.classes"
            )
        counts.append(count or 0)
    if problems:
        raise InputError(problems)
    return counts


def stratified_subset(
    labels: Tensor, classes: Sequence[str], samples_per_class: int | Mapping[str, int] | None, seed: int
) -> Tensor:
    """Draws a number of training images of each class from the stream "subset.<class>".

    Each class has a stream of its own, so subsets are nested: with one seed, 5 images a class are the first 5 of the
    10 a class, and a class keeps its images when the number of another changes or `data.classes` leaves it out.

    Args:
        labels: int64 [N] of the training images.
        classes: their names.
        samples_per_class: a number; a map of class to number, '*' for all others; None for all.
        seed: the run's.

    Returns:
        int64 indices into the training images, on the CPU: class by class, in the order of drawing.

    Raises:
        InputError: if a class has too few images.
    """
    labels = labels.cpu()
    counts = count_samples(labels, classes, samples_per_class)
    drawn = []
    for number, (title, count) in enumerate(zip(classes, counts, strict=True)):
        members = (labels == number).nonzero().flatten()
        drawn.append(members[torch.randperm(len(members), generator=stream(seed, f"subset.{title}"))[:count]])
    return torch.cat(drawn)


def unknown_class(setting: str, title: str, classes: Sequence[str], name: str) -> str:
    """Returns the problem of a setting that names a class which the data set does not have."""
    return f"{setting} must name classes of {name}, got {title!r}; {suggest(title, classes)}"
