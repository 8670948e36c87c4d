"""Laws between settings: what a data set holds, what a method needs, what lies behind a path.

Each takes a block's choices, so that a broken value elsewhere in the block hides nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from l2t_ray import registry
from l2t_ray.architectures import BF16_TARGETS, missing_level
from l2t_ray.blocks import Block, Choice, reads
from l2t_ray.config import Source, Target, like_default
from l2t_ray.data_sets import CLASSES, TRAIN_IMAGES_PER_CLASS
from l2t_ray.digests import Contents, Digests
from l2t_ray.errors import InputError
from l2t_ray.settings import shown, suggest
from l2t_ray.trace_laws import trace_problems

WITH_PATH = frozenset({"image_folder", "tiny_imagenet"})
TRACED = {"trace.gamma": "which", "trace.lambda": "where", "trace.omega": "what"}  # and the network that gives it
OTHERS = "*"  # in a map of class to number
N_TOLD = 20


@dataclass
class Laws:
    """The laws, and what checking them has found out about files.

    Attributes:
        digests: of contents.
        images: by `data.path`.
        weights: SHA-256 by `source.weights`.
        missing: the file that trains them, by `source.weights` that are not there.
    """

    digests: Digests
    images: dict[str, Contents] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    missing: dict[str, Path] = field(default_factory=dict)
    _unread: dict[tuple[str, str], str] = field(default_factory=dict)  # (place, setting) -> problem
    _read: set[tuple[str, str]] = field(default_factory=set)

    def check(self, block: Block) -> list[str]:
        """What is wrong between a block's settings.

        Args:
            block: its choices.

        Returns:
            A line a problem.
        """
        methods = [choice for choice in block.values("method") if choice.value in registry.METHODS]
        described = [registry.METHODS[choice.value] for choice in methods]
        self._claim_traces(block, described)
        return [
            *self._check_methods(block),
            *self._check_weights(block, methods),
            *self._check_options(block, described),
            *_check_pairs(block, described),
            *_check_precision(block),
            *trace_problems(block),
            *self._check_data(block),
        ]

    def unread(self) -> list[str]:
        """Settings that no block of the whole file reads.

        Returns:
            A line for each.
        """
        return [problem for name, problem in self._unread.items() if name not in self._read]

    def _check_methods(self, block: Block) -> Iterator[str]:
        for choice in block.values("method"):
            if choice.value not in registry.METHODS:
                law = f"method must be one of {', '.join(registry.METHODS)}"
                remedy = suggest(choice.value, registry.METHODS)
                yield f"{choice.item.place}: {law}, got {choice.value!r}; {remedy}, or name its file in `methods:`"

    def _check_weights(self, block: Block, methods: list[Choice]) -> Iterator[str]:
        needing = [choice for choice in methods if _reads_source(registry.METHODS[choice.value])]
        if not needing:
            return
        named = block.values("source.weights") or [Choice(None, needing[0].item)]
        for weights in named:
            if weights.value is None:
                law = f"source.weights must be given for {needing[0].value}, got none"
                yield (
                    f"{weights.item.place}: {law}; add `source: {{weights: FILE}}`, and train one "
                    "with `python -m l2t_ray.pretrain` if there is none"
                )
            elif not Path(weights.value).is_file() and (
                training := [c for c in block.values("source.train") if c.value]
            ):
                for train in training:
                    yield from self._check_training(block, weights.value, train)
            elif not Path(weights.value).is_file():
                law = f"source.weights must be a file, from the working folder, got {weights.value!r}"
                remedy = (
                    "correct the path, train it with `python -m l2t_ray.pretrain FILE`, or add `train: FILE` beside it"
                )
                yield f"{weights.item.place}: {law}; {remedy}"
            else:
                try:
                    self.weights[weights.value] = self.digests.of_weights(Path(weights.value)).sha256
                except OSError as error:
                    law = f"source.weights must be a file that can be read, got {error.strerror!r}"
                    yield f"{weights.item.place}: {law}; check its permissions"
        for pinned in block.values("source.sha256"):
            for value in {choice.value for choice in named} & set(self.weights):
                yield from _check_pin(pinned, self.weights[value], value)

    def _check_training(self, block: Block, weights: str, train: Choice) -> Iterator[str]:
        from l2t_ray.source_file import missing_starts, read_pretraining  # needs torch

        place = train.item.place
        try:
            settings = read_pretraining(Path(train.value), digests=self.digests)
            starts = missing_starts(Path(train.value), settings, self.digests)
        except InputError as error:
            yield from (f"{place}: source.train: {problem}" for problem in error.problems)
            return
        if Path(settings.out) != Path(weights):
            law = f"source.train must be the file that writes {weights!r}"
            yield f"{place}: {law}, got {train.value} with `out: {settings.out}`; correct one of them"
        for name in ("arch", "width"):
            made, default = getattr(settings.source, name), Choice(getattr(Source(), name), train.item)
            for choice in block.values(f"source.{name}") or [default]:
                if choice.value != made:
                    law = f"source.{name} must be what source.train makes, {made}"
                    yield f"{choice.item.place}: {law}, got {choice.value}; correct one of them"
        for start, file in {**starts, weights: Path(train.value)}.items():
            self.missing.setdefault(start, file)

    def _check_options(self, block: Block, methods: list[registry.Described]) -> Iterator[str]:
        for dotted, choices in block.choices.items():
            section, _, name = dotted.partition(".")
            for choice in choices if section == "options" else ():
                claim = (choice.item.place, dotted)
                taking = [method for method in methods if name in method.options]
                if taking:
                    self._read.add(claim)
                elif methods:
                    known = sorted({option for method in methods for option in method.options})
                    law = f"{dotted} must be an option of {', '.join(method.name for method in methods)}"
                    self._unread[claim] = f"{choice.item.place}: {law}; {suggest(name, known)}"
                for method in taking:
                    try:
                        like_default(choice.value, method.options[name])
                    except ValueError as error:
                        law = f"{dotted} {error}, in {method.name}"
                        yield f"{choice.item.place}: {law}, got {shown(choice.item)}; correct it"

    def _claim_traces(self, block: Block, methods: list[registry.Described]) -> None:
        networks = {name for method in methods for name in getattr(method, "networks", ())}
        for name, network in TRACED.items():
            for choice in block.values(name):
                claim = (choice.item.place, name)
                if not choice.value or network in networks:
                    self._read.add(claim)
                elif methods:
                    law = f"{name} must stand with a method that learns {network!r}"
                    told = ", ".join(method.name for method in methods)
                    self._unread[claim] = f"{choice.item.place}: {law}, got {told}; remove it, or add such a method"

    def _check_data(self, block: Block) -> Iterator[str]:
        names = block.values("data.name")
        reading = [choice for choice in names if choice.value in WITH_PATH]
        for path in block.values("data.path"):
            claim = (path.item.place, "data.path")
            if reading or path.value is None:
                self._read.add(claim)
            elif names:
                law = f"data.path must stand with {' or '.join(sorted(WITH_PATH))}"
                told = ", ".join(choice.value for choice in names)
                self._unread[claim] = f"{path.item.place}: {law}, got data.name {told}; remove it, or correct data.name"
        for name in names:
            if name.value not in WITH_PATH:
                yield from _check_images(block, name.value, None)
                continue
            for path in block.values("data.path") or [Choice(None, name.item)]:
                yield from self._check_path(block, name, path)

    def _check_path(self, block: Block, name: Choice, path: Choice) -> Iterator[str]:
        if path.value is None:
            law = f"data.path must name the folder or tar of {name.value}, got none"
            yield f"{path.item.place}: {law}; add `path:` under `data:`"
            return
        if path.value not in self.images:
            try:
                if not Path(path.value).exists():
                    law = f"data.path must be a folder or a tar, from the working folder, got {path.value!r}"
                    yield f"{path.item.place}: {law}; correct the path, or put the images there"
                    return
                self.images[path.value] = self.digests.of_images(Path(path.value))
            except (InputError, OSError) as error:
                told = " ".join(str(error).removeprefix(f"{path.value}: ").split())
                yield f"{path.item.place}: data.path must be a folder or a tar of {name.value}, {path.value!r} {told}"
                return
        contents = self.images[path.value]
        for pinned in block.values("data.sha256"):
            yield from _check_pin(pinned, contents.sha256, path.value)
        yield from _check_images(block, name.value, contents.n_train if name.value == "image_folder" else None)


def _check_pin(pinned: Choice, found: str, path: str) -> Iterator[str]:
    if pinned.value not in {None, found}:
        law = f"sha256 must be that of {path}, {found}"
        yield f"{pinned.item.place}: {law}, got {pinned.value!r}; correct it, remove it, or restore the file"


def _check_pairs(block: Block, methods: list[registry.Described]) -> Iterator[str]:
    """Pairs of levels against the levels that the networks have."""
    if not any(reads(method, "transfer.pairs") for method in methods):
        return
    for pairs in block.values("transfer.pairs"):
        for source in block.values("source.arch") or [Choice(Source().arch, pairs.item)]:
            for target in block.values("target.arch") or [Choice(Target().arch, pairs.item)]:
                if wrong := missing_level(pairs.value, source.value, target.value):
                    yield f"{pairs.item.place}: transfer.pairs {wrong}; correct the list"


def _check_precision(block: Block) -> Iterator[str]:
    """bf16 against the targets whose passes round their operands themselves."""
    for target in block.values("target.arch"):
        for precision in block.values("training.precision"):
            if precision.value == "bf16" and target.value not in BF16_TARGETS:
                law = f"training.precision must be float32, tf32 or float64 for {target.value}, got bf16"
                yield f"{precision.item.place}: {law}; leave it out, or take {' or '.join(BF16_TARGETS)}"


def _reads_source(method: registry.Described) -> bool:
    return any(name.partition(".")[0] == "source" for name in method.uses)


def _check_images(block: Block, name: str, n_train: Mapping[str, int] | None) -> Iterator[str]:
    """Classes and numbers against what is known of the data set before anything is read."""
    every = list(n_train) if n_train else list(CLASSES.get(name, ()))
    for chosen in block.values("data.classes") or [Choice(None, None)]:  # type: ignore[arg-type]
        for title in chosen.value or ():
            if every and title not in every:
                place = chosen.item.place
                yield f"{place}: data.classes must name classes of {name}, got {title!r}; {_suggest(title, every)}"
        classes = list(chosen.value or every)
        for samples in block.values("data.samples_per_class"):
            yield from _check_samples(samples, name, classes, n_train)
            for held in block.values("data.validation_per_class"):
                yield from _check_held_out(held, samples, name, classes, n_train)


def _check_held_out(
    held: Choice, samples: Choice, name: str, classes: list[str], n_train: Mapping[str, int] | None
) -> Iterator[str]:
    wanted: Mapping[str, Any] = samples.value if isinstance(samples.value, dict) else {OTHERS: samples.value}
    left = []
    for title in classes or [OTHERS]:
        there = n_train.get(title) if n_train else _images(name, [title])
        number = wanted.get(title, wanted.get(OTHERS))
        if there is not None and number is not None:
            left.append(there - number)
    if held.value is not None and left and held.value > min(left):
        law = f"data.validation_per_class must be <= {max(min(left), 0)}, which {name} has beside those trained on"
        yield f"{held.item.place}: {law}, got {held.value}; ask for fewer"


def _check_samples(samples: Choice, name: str, classes: list[str], n_train: Mapping[str, int] | None) -> Iterator[str]:
    wanted: Mapping[str, Any] = samples.value if isinstance(samples.value, dict) else {OTHERS: samples.value}
    for title, number in wanted.items():
        item = samples.item.trail([title])[-1]
        law = f"{item.place}: data.samples_per_class must"
        if title == OTHERS:
            others = [known for known in classes if known not in wanted]
            there = (
                min((n_train.get(known, number) for known in others), default=number)
                if n_train
                else _images(name, others)
            )
        elif classes and title not in classes:
            yield f"{law} name classes of {name}, got {title!r}; {_suggest(title, classes)}"
            continue
        else:
            there = n_train.get(title, number) if n_train else _images(name, [title])
        if there is not None and number > there:
            yield f"{law} be <= {there} for {name}, got {number}; ask for fewer"
    missing = [title for title in classes if title not in wanted]
    if OTHERS not in wanted and missing:
        told = ", ".join(missing[:N_TOLD])
        yield f"{samples.item.place}: data.samples_per_class must have every class, got none of {told}; add '*': NUMBER"


def _images(name: str, classes: list[str]) -> int | None:
    """Training images of the smallest of these classes, as far as it is known before anything is read."""
    if (
        name == "digits" and "8" not in classes
    ):  # the smallest; the others have up to 92, which the data's reader checks
        return None
    return TRAIN_IMAGES_PER_CLASS.get(name)


def _suggest(title: str, classes: list[str]) -> str:
    remedy = suggest(title, classes)
    return (
        remedy
        if len(classes) <= N_TOLD or remedy.startswith("did")
        else f"known are {', '.join(classes[:N_TOLD])}, ..."
    )
