"""Checks settings against each other: what a data set holds, what a method needs, which files a path leads to.

Each check reads a block's choices, so that a broken value elsewhere in the block hides no other problem.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from l2t_ray import registry
from l2t_ray.config import OPTIONAL_SECTIONS, Source, like_default
from l2t_ray.config.sections import file_in
from l2t_ray.data.digests import Contents, Digests
from l2t_ray.data.layout import n_trained, split_problems
from l2t_ray.data.names import twin
from l2t_ray.errors import InputError, disk_problem, suggest
from l2t_ray.hubs import hub_of
from l2t_ray.published import official_weights, weights_at, weights_file
from l2t_ray.registry import BF16_TARGETS, missing_level
from l2t_ray.sweepfile.blocks import Block, Choice, reads
from l2t_ray.sweepfile.data_checks import TAKERS, WITH_PATH, image_problems
from l2t_ray.sweepfile.network_checks import NETWORKS, network_problems, network_values, recompute_problems
from l2t_ray.sweepfile.settings import boolean_meant, shown
from l2t_ray.sweepfile.trace_checks import trace_problems

TRACED = {"trace.gamma": "which", "trace.lambda": "where", "trace.omega": "what"}  # setting -> the network it traces
OF_DISTIL = ("options.temperature", "options.lambda_first", "options.lambda_last")  # of hint: read with `distil` alone


@dataclass
class Checks:
    """The checks between settings, and what they have learnt about files."""

    digests: Digests  # of contents
    images: dict[str, Contents] = field(default_factory=dict)  # by `data.path`
    weights: dict[str, str] = field(default_factory=dict)  # SHA-256 by file of weights
    # by missing `source.weights`: the weights to train and the file that trains each, in order
    missing: dict[str, dict[str, Path]] = field(default_factory=dict)
    _read: set[tuple[str, str]] = field(default_factory=set)  # (place, setting), read by a block so far
    _unread: dict[tuple[str, str], str] = field(
        default_factory=dict
    )  # (place, setting) -> problem if no block reads it
    _idle: dict[tuple[str, str], str] = field(default_factory=dict)  # as `_unread`, for what has no effect

    def check(self, block: Block) -> list[str]:
        """Returns a line for each problem between a block's settings."""
        methods = [choice for choice in block.values("method") if choice.value in registry.METHODS]
        described = [registry.METHODS[choice.value] for choice in methods]
        self._note_traces(block, described)
        self._note_lists(block, described)
        self._note_augment(block)
        self._note_hint(block, described)
        return [
            *self._check_methods(block),
            *network_problems(block),
            *recompute_problems(block),
            *self._check_weights(block, methods),
            *self._check_options(block, described),
            *_check_pairs(block, described),
            *_check_precision(block),
            *trace_problems(block),
            *self._check_data(block),
        ]

    def unread(self) -> list[str]:
        """Returns a line for each setting that no block of the whole file reads."""
        return [problem for name, problem in self._unread.items() if name not in self._read]

    def notes(self) -> tuple[str, ...]:
        """Returns a line for each list, and option of hint, that no block of the whole file reads."""
        return tuple(note for name, note in self._idle.items() if name not in self._read)

    def _note_unread(self, choice: Choice, setting: str, problem: str) -> None:
        self._unread[choice.item.place, setting] = f"{choice.item.place}: {problem}"

    def _check_methods(self, block: Block) -> Iterator[str]:
        for choice in block.values("method"):
            if choice.value not in registry.METHODS:
                rule = f"method must be one of {', '.join(registry.METHODS)}"
                remedy = suggest(choice.value, registry.METHODS)
                yield f"{choice.item.place}: {rule}, got {choice.value!r}; {remedy}, or name its file in `methods:`"

    def _check_weights(self, block: Block, methods: list[Choice]) -> Iterator[str]:
        needing = [choice for choice in methods if _reads_source(registry.METHODS[choice.value])]
        if needing:
            training = [choice for choice in block.values("source.train") if choice.value]
            for weights in block.choices.get("source.weights", [Choice(None, needing[0].item)]):
                if weights.value is None:
                    rule = f"source.weights must be given for {needing[0].value}, got none"
                    yield (
                        f"{weights.item.place}: {rule}; add `source: {{weights: FILE}}`, and train one "
                        "with `python -m l2t_ray.pretrain` if there is none"
                    )
                else:
                    yield from self._check_file(block, "source", weights, training)
            yield from self._check_pins(block, "source")
        for weights in block.values("target.weights"):
            if weights.value is not None:
                yield from self._check_file(block, "target", weights, [])
        yield from self._check_pins(block, "target")

    def _check_file(self, block: Block, section: str, weights: Choice, training: list[Choice]) -> Iterator[str]:
        try:
            yield from self._look_at_file(block, section, weights, training)
        except OSError as error:
            yield f"{weights.item.place}: {section}.weights: {disk_problem(error)}"

    def _look_at_file(self, block: Block, section: str, weights: Choice, training: list[Choice]) -> Iterator[str]:
        """Notes the digest of a file of weights, for every architecture that may read it."""
        setting, place = f"{section}.weights", weights.item.place
        for arch in dict.fromkeys(choice.value for choice in network_values(block, section, "arch", weights.item)):
            hub = hub_of(arch)
            if hub is not None and hub.problem(arch):
                continue  # told of the network
            file = str(weights_file(arch, weights.value))
            item = weights_at(file)
            digits = item.digest.partition(":")[2] if item else ""  # empty: any content
            if item and not Path(file).is_file():
                self.weights[file] = digits  # a launch fetches it
            elif Path(file).is_dir():
                rule = f"{setting} must be a file, got the folder {weights.value!r}"
                yield f"{place}: {rule}; {file_in(Path(file))}"
            elif not Path(file).is_file() and training:
                for train in training:
                    yield from self._check_training(block, file, train)
            elif not Path(file).is_file():
                rule = f"{setting} must be a file, from the working folder"
                remedy = (
                    "correct the path, train it with `python -m l2t_ray.pretrain FILE`, or add `train: FILE` beside it"
                )
                if known := official_weights(arch):
                    whose = "torchvision" if hub is None else hub.library
                    rule = f"{setting} must be {whose}'s {' or '.join(known)} for {arch}, or a file"
                    remedy = suggest(weights.value, known)
                elif section == "target":
                    remedy = "correct the path"
                yield f"{place}: {rule}, got {weights.value!r}; {remedy}"
            else:
                found = self.digests.of_weights(Path(file)).sha256
                self.weights[file] = digits or found  # published ones are known by the published digits
                if item and item.client != "huggingface_hub" and not found.startswith(digits):
                    rule = f"{file} must be {item.what}, {item.digest}, got {found}"
                    yield f"{place}: {rule}; remove it, and the next launch fetches it"

    def _check_pins(self, block: Block, section: str) -> Iterator[str]:
        for pinned in block.values(f"{section}.sha256"):
            for arch in network_values(block, section, "arch", pinned.item):
                for weights in block.values(f"{section}.weights"):
                    if (file := weights_file(arch.value, weights.value)) in self.weights:
                        yield from _check_pin(pinned, self.weights[str(file)], str(weights.value))

    def _check_training(self, block: Block, weights: str, train: Choice) -> Iterator[str]:
        from l2t_ray.sweepfile.source_file import missing_starts, read_pretraining  # needs torch

        place = train.item.place
        try:
            settings = read_pretraining(Path(train.value), digests=self.digests)
            starts = missing_starts(Path(train.value), settings, self.digests)
        except InputError as error:
            yield from (f"{place}: source.train: {problem}" for problem in error.problems)
            return
        if Path(settings.out) != Path(weights):
            rule = f"source.train must be the file that writes {weights!r}"
            yield f"{place}: {rule}, got {train.value} with `out: {settings.out}`; correct one of them"
        for name in ("arch", "width"):
            made, default = getattr(settings.source, name), Choice(getattr(Source(), name), train.item)
            for choice in block.values(f"source.{name}") or [default]:
                if choice.value != made:
                    rule = f"source.{name} must be what source.train makes, {made}"
                    yield f"{choice.item.place}: {rule}, got {choice.value}; correct one of them"
        self.missing[weights] = {**starts, weights: Path(train.value)}

    def _check_options(self, block: Block, methods: list[registry.Described]) -> Iterator[str]:
        for dotted, choices in block.choices.items():
            section, _, name = dotted.partition(".")
            for choice in choices if section == "options" else ():
                taking = [method for method in methods if name in method.options]
                if taking:
                    self._read.add((choice.item.place, dotted))
                elif methods:
                    known = sorted({option for method in methods for option in method.options})
                    rule = f"{dotted} must be an option of {', '.join(method.name for method in methods)}"
                    self._note_unread(choice, dotted, f"{rule}; {suggest(name, known)}")
                for method in taking:
                    try:
                        like_default(choice.value, method.options[name])
                    except ValueError as error:
                        rule = f"{dotted} {error}, in {method.name}"
                        is_boolean = isinstance(method.options[name], bool)
                        remedy = (is_boolean and boolean_meant(choice.value)) or "correct it"
                        yield f"{choice.item.place}: {rule}, got {shown(choice.item)}; {remedy}"

    def _note_traces(self, block: Block, methods: list[registry.Described]) -> None:
        networks = {name for method in methods for name in getattr(method, "networks", ())}
        for name, network in TRACED.items():
            for choice in block.values(name):
                if not choice.value or network in networks:
                    self._read.add((choice.item.place, name))
                elif methods:
                    rule = f"{name} must stand with a method that learns {network!r}"
                    others = ", ".join(method.name for method in methods)
                    self._note_unread(choice, name, f"{rule}, got {others}; remove it, or add such a method")

    def _note_augment(self, block: Block) -> None:
        """Notes changes of images that another setting makes idle."""
        crops, operations = block.values("augment.resized_crop"), block.values("augment.rand_augment")
        idle = {
            "augment.crop_padding": (
                bool(crops) and all(crop.value is not None for crop in crops),
                "must stand without augment.resized_crop, which takes its place",
            ),
            "augment.rand_augment_magnitude": (
                not any(number.value for number in operations),
                "must stand with augment.rand_augment of at least 1",
            ),
        }
        for name, (is_idle, rule) in idle.items():
            for choice in block.values(name):
                if not is_idle:
                    self._read.add((choice.item.place, name))
                else:
                    self._note_unread(
                        choice, name, f"{name} {rule}, got {shown(choice.item)}; remove it, or change the other"
                    )

    def _note_hint(self, block: Block, methods: list[registry.Described]) -> None:
        """Notes options that no method of the whole file reads, though they are a part of the keys of hint's runs."""
        takes_distil = any(distil.value for distil in block.values("options.distil"))
        for name in OF_DISTIL:
            taking = {method.name for method in methods if reads(method, name)}
            for choice in block.values(name) if taking else ():
                setting = choice.item.place, f"{name} of hint"
                if taking > {"hint"} or takes_distil or "hint" not in taking:
                    self._read.add(setting)
                else:
                    rule = f"{name} has no effect on hint without options.distil: true, but gives its runs other keys"
                    self._idle[setting] = f"{choice.item.place}: note: {rule}; leave it out, or add `distil: true`"

    def _note_lists(self, block: Block, methods: list[registry.Described]) -> None:
        for name in sorted(block.listed):
            choices = block.values(name)
            if name.partition(".")[0] not in OPTIONAL_SECTIONS or len(choices) < 2:
                continue
            place = choices[0].item.place
            if any(reads(method, name) for method in methods):
                self._read.add((place, name))
            elif methods:
                others = ", ".join(method.name for method in methods)
                note = f"{place}: note: {others} does not read {name}, whose {len(choices)} values make one cell"
                self._idle[place, name] = note

    def _check_data(self, block: Block) -> Iterator[str]:
        names = block.values("data.name")
        for setting, takers in TAKERS.items():
            for choice in block.values(setting):
                if choice.value is None or any(name.value in takers for name in names):
                    self._read.add((choice.item.place, setting))
                elif names:
                    rule = f"{setting} must stand with {' or '.join(sorted(takers))}"
                    others = ", ".join(name.value for name in names)
                    self._note_unread(
                        choice, setting, f"{rule}, got data.name {others}; remove it, or correct data.name"
                    )
        for name in names:
            if name.value not in WITH_PATH:
                yield from image_problems(block, name.value, None)
                continue
            for path in block.choices.get("data.path", [Choice(None, name.item)]):
                yield from self._check_path(block, name, path)

    def _check_path(self, block: Block, name: Choice, path: Choice) -> Iterator[str]:
        if path.value is None:
            rule = f"data.path must name the folder or tar of {name.value}, got none"
            yield f"{path.item.place}: {rule}; add `path:` under `data:`"
            return
        if path.value not in self.images:
            try:
                if found := twin(Path(path.value)):
                    rule = f"data.path must be spelled as on the disk, where it is {str(found)!a}"
                    yield f"{path.item.place}: {rule}, got {path.value!a}; rename one of them"
                    return
                if not Path(path.value).exists():
                    rule = f"data.path must be a folder or a tar, from the working folder, got {path.value!r}"
                    yield f"{path.item.place}: {rule}; correct the path, or put the images there"
                    return
                self.images[path.value] = self.digests.of_images(Path(path.value))
            except (InputError, OSError) as error:
                for problem in error.problems if isinstance(error, InputError) else [disk_problem(error)]:
                    reason = " ".join(problem.removeprefix(f"{path.value}: ").split())
                    rule = f"data.path must be a folder or a tar of {name.value}, {path.value!r}"
                    yield f"{path.item.place}: {rule} {reason}"
                return
        contents = self.images[path.value]
        for pinned in block.values("data.sha256"):
            yield from _check_pin(pinned, contents.sha256, path.value)
        if name.value != "image_folder":
            yield from image_problems(block, name.value, None)
            return
        for fraction in block.values("data.test_fraction") or [Choice(None, path.item)]:
            for problem in split_problems(has_test=contents.has_test, test_fraction=fraction.value, val=contents.val):
                yield f"{fraction.item.place}: data.path {path.value!r}: {problem}"
            yield from image_problems(block, name.value, n_trained(contents.n_train, fraction.value))


def _check_pin(pinned: Choice, sha256: str, path: str) -> Iterator[str]:
    if pinned.value not in {None, sha256}:
        rule = f"sha256 must be that of {path}, {sha256}"
        yield f"{pinned.item.place}: {rule}, got {pinned.value!r}; correct it, remove it, or restore the file"


def _check_pairs(block: Block, methods: list[registry.Described]) -> Iterator[str]:
    """Yields a line where `transfer.pairs` names a level that a network does not have."""
    if not any(reads(method, "transfer.pairs") for method in methods):
        return
    for pairs in block.values("transfer.pairs"):
        for source in network_values(block, "source", "arch", pairs.item):
            for target in network_values(block, "target", "arch", pairs.item):
                for levels in itertools.product(*(_levels(block, section, pairs) for section in NETWORKS)):
                    if wrong := missing_level(pairs.value, source.value, target.value, levels):
                        yield f"{pairs.item.place}: transfer.pairs {wrong}; correct the list"


def _levels(block: Block, section: str, pairs: Choice) -> list[Any]:
    return [choice.value for choice in network_values(block, section, "levels", pairs.item)]


def _check_precision(block: Block) -> Iterator[str]:
    """Yields a line where bf16 is asked of a target that cannot round its convolutions' operands."""
    for target in block.values("target.arch"):
        for precision in block.values("training.precision"):
            if precision.value == "bf16" and target.value not in BF16_TARGETS:
                rule = f"training.precision must be float32, tf32 or float64 for {target.value}, got bf16"
                yield f"{precision.item.place}: {rule}; leave it out, or take {' or '.join(BF16_TARGETS)}"


def _reads_source(method: registry.Described) -> bool:
    return any(name.partition(".")[0] == "source" for name in method.uses)
