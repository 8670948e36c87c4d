"""A run's validation images: training images that it does not train on, on which a search measures it.

They come from streams of their own, so the training subset is that of the same run without them, and the test set is
never looked at.
"""

import difflib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from l2t_ray.config import Data
from l2t_ray.data.streams import stream
from l2t_ray.errors import InputError

OTHERS = "*"  # in a map of class to number


def count_held_out(labels: Tensor, classes: Sequence[str], settings: Data, *, name: str = "this data") -> list[int]:
    """How many images of each class are trained on, once it is known that training and validation fit together.

    Args:
        labels: int64 [N] of the training images.
        classes: their names.
        settings: of a run.
        name: of the data set, for messages.

    Returns:
        One number a class.

    Raises:
        InputError: if a class has too few images for both.
    """
    counts = count_samples(labels, classes, settings.samples_per_class, name=name)
    wanted = settings.validation_per_class or 0
    there = torch.bincount(labels, minlength=len(classes)).tolist()
    problems = [
        f"data.validation_per_class must be <= {n_there - count} for class {title!r} of {name}, which has {n_there} "
        f"training images of which {count} are trained on, got {wanted}; ask for fewer"
        for title, n_there, count in zip(classes, there, counts, strict=True)
        if count + wanted > n_there
    ]
    if problems:
        raise InputError(problems)
    return counts


def validation_subset(labels: Tensor, classes: Sequence[str], settings: Data, seed: int) -> Tensor:
    """Draws validation images, so many of each class, from the stream "validation.<class>".

    One order of a class' images decides, of which those that the run trains on are passed over: runs with 5 and with 10
    training images a class share nearly all of their validation images.

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
    """How many training images of each class are wanted.

    Args:
        labels: int64 [N] of the training images.
        classes: their names.
        samples_per_class: a number; a map of class to number, '*' for all others; None for all.
        name: of the data set, for messages.

    Returns:
        One number a class.

    Raises:
        InputError: if a class has fewer, a name is not a class, or a class has no number.
    """
    there = torch.bincount(labels, minlength=len(classes)).tolist()
    if samples_per_class is None:
        return there
    wanted = samples_per_class if isinstance(samples_per_class, Mapping) else {OTHERS: samples_per_class}
    place = "data.samples_per_class"
    problems = [_did_you_mean(place, key, classes, name) for key in wanted if key not in {OTHERS, *classes}]
    counts = []
    for title, n_there in zip(classes, there, strict=True):
        count = wanted.get(title, wanted.get(OTHERS))
        if count is None:
            problems.append(f"{place} must give a number for every class of {name}, or for '*', {title!r} has none")
        elif not 1 <= count <= n_there:
            problems.append(
                f"{place} must be >= 1 and <= {n_there} for class {title!r} of {name}, got {count}; "
                "ask for fewer, or leave the class out with data.classes"
            )
        counts.append(count or 0)
    if problems:
        raise InputError(problems)
    return counts


def stratified_subset(
    labels: Tensor, classes: Sequence[str], samples_per_class: int | Mapping[str, int] | None, seed: int
) -> Tensor:
    """Draws training images: so many of each class, from the stream "subset.<class>".

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
        InputError: if the numbers cannot be had.
    """
    labels = labels.cpu()
    counts = count_samples(labels, classes, samples_per_class)
    drawn = []
    for number, (title, count) in enumerate(zip(classes, counts, strict=True)):
        members = (labels == number).nonzero().flatten()
        drawn.append(members[torch.randperm(len(members), generator=stream(seed, f"subset.{title}"))[:count]])
    return torch.cat(drawn)


def _did_you_mean(place: str, value: str, classes: Sequence[str], name: str) -> str:
    close = difflib.get_close_matches(value, classes, n=1)
    listed = ", ".join(classes[:10]) + (f" and {len(classes) - 10} others" if len(classes) > 10 else "")
    remedy = f"did you mean {close[0]!r}?" if close else f"they are {listed}"
    return f"{place} must name classes of {name}, got {value!r}; {remedy}"
