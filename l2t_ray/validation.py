"""A run's validation images: training images that it does not train on, on which a search measures it.

They come from streams of their own, so the training subset is that of the same run without them, and the test set is
never looked at.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from l2t_ray.config import Data
from l2t_ray.data import count_samples, stratified_subset
from l2t_ray.errors import InputError
from l2t_ray.streams import stream


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
