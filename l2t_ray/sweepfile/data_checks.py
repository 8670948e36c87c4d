"""Checks the classes and numbers of images that a block asks for against what is known of the data set."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from l2t_ray.data.names import composed
from l2t_ray.errors import suggest
from l2t_ray.registry import DATA_SETS
from l2t_ray.sweepfile.blocks import Block, Choice

OTHERS = "*"  # stands for all other classes in a map of class to number
N_SHOWN = 20
WITH_PATH = frozenset(name for name, facts in DATA_SETS.items() if facts.has_path)
FOLDER = frozenset({"image_folder"})
TAKERS = {  # settings of some data sets alone
    "data.path": WITH_PATH,
    "data.sha256": WITH_PATH,
    "data.test_fraction": FOLDER,
    "data.resize": FOLDER,  # the other sets' images are square
}


def image_problems(block: Block, name: str, n_train: Mapping[str, int] | None) -> Iterator[str]:
    """Yields a line for each class or number that the data set cannot give, before any image is read.

    Args:
        block: its choices.
        name: of the data set.
        n_train: training images by class, where a folder has been scanned.
    """
    every = list(n_train) if n_train else list(DATA_SETS[name].classes)
    for chosen in block.values("data.classes") or [Choice(None, None)]:  # type: ignore[arg-type]
        yield from _alike(chosen, "data.classes", chosen.value or ())
        classes = [composed(title) for title in chosen.value or every]
        for title in classes:
            if every and title not in every:
                place = chosen.item.place
                yield f"{place}: data.classes must name classes of {name}, got {title!r}; {suggest(title, every)}"
        for samples in block.values("data.samples_per_class"):
            if isinstance(samples.value, dict):
                yield from _alike(samples, "data.samples_per_class", samples.value)
            yield from _check_samples(samples, name, classes, n_train)
            for held in block.values("data.validation_per_class"):
                yield from _check_held_out(held, samples, name, classes, n_train)


def _alike(choice: Choice, setting: str, titles: Collection[str]) -> Iterator[str]:
    """Yields a line for each class that is named twice, in two Unicode forms."""
    seen: set[str] = set()
    for title in titles:
        if composed(title) in seen:
            yield f"{choice.item.place}: {setting} must name each class once, got {title!a} in two forms; remove one"
        seen.add(composed(title))


def _numbers(samples: Choice) -> dict[str, Any]:
    """Returns the numbers of images by class, in Unicode's composed form."""
    wanted = samples.value if isinstance(samples.value, dict) else {OTHERS: samples.value}
    return {composed(title): number for title, number in wanted.items()}


def _check_held_out(
    held: Choice, samples: Choice, name: str, classes: list[str], n_train: Mapping[str, int] | None
) -> Iterator[str]:
    wanted = _numbers(samples)
    left = []
    for title in classes or [OTHERS]:
        there = n_train.get(title) if n_train else _images(name, [title])
        number = wanted.get(title, wanted.get(OTHERS))
        if there is not None and number is not None:
            left.append(there - number)
    if held.value is not None and left and held.value > min(left):
        rule = f"data.validation_per_class must be <= {max(min(left), 0)}, which {name} has beside those trained on"
        yield f"{held.item.place}: {rule}, got {held.value}; ask for fewer"


def _check_samples(samples: Choice, name: str, classes: list[str], n_train: Mapping[str, int] | None) -> Iterator[str]:
    wanted = _numbers(samples)
    given = {composed(title): title for title in samples.value} if isinstance(samples.value, dict) else {}
    for title, number in wanted.items():
        item = samples.item.trail([given.get(title, title)])[-1]
        rule, who, remedy = f"{item.place}: data.samples_per_class must", name, "ask for fewer"
        if title == OTHERS:
            others = [known for known in classes if known not in wanted]
            there = _images(name, others)
            if n_train:
                least = min(others, key=lambda known: n_train.get(known, number), default="")
                there = n_train.get(least, number)
                who = f"class {least!r} of {name}"
                remedy = "ask for fewer, or leave the class out with data.classes"
        elif classes and title not in classes:
            yield f"{rule} name classes of {name}, got {title!r}; {suggest(title, classes)}"
            continue
        else:
            there = n_train.get(title, number) if n_train else _images(name, [title])
        if there is not None and number > there:
            yield f"{rule} be <= {there} for {who}, got {number}; {remedy}"
    missing = [title for title in classes if title not in wanted]
    if OTHERS not in wanted and missing:
        some = ", ".join(missing[:N_SHOWN])
        yield f"{samples.item.place}: data.samples_per_class must have every class, got none of {some}; add '*': NUMBER"


def _images(name: str, classes: list[str]) -> int | None:
    """Returns the training images of the smallest of these classes; None where only the files show them."""
    if name == "digits" and "8" not in classes:  # 8 is the smallest class; `load_data` checks the others
        return None
    return DATA_SETS[name].least_train
