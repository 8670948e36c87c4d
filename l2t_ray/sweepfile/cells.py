"""Expands blocks into cells, runs that differ in their seed alone; refuses two blocks that disagree about a cell."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError

from l2t_ray import registry
from l2t_ray.config import Run, Source, Target, Trace, flat
from l2t_ray.published import weights_file
from l2t_ray.run import AnyRun
from l2t_ray.sweepfile.blocks import Block, Choice, reads
from l2t_ray.sweepfile.checks import Checks
from l2t_ray.sweepfile.data_checks import TAKERS, WITH_PATH


@dataclass
class Cell:
    """Runs that differ in their seed alone."""

    name: str  # data/samples/method, or data/samples/method/variant
    run: AnyRun  # the first one
    place: str  # of the first block that asks for it
    seeds: "dict[int, Extras | None]"  # in order, each with what its run keeps; None for a trainer of the user's own

    def runs(self) -> Iterator[AnyRun]:
        """Yields a run for each seed, in order."""
        for run in self.run.with_seeds(self.seeds):
            extras = self.seeds[run.seed]
            if isinstance(run, Run) and extras is not None:  # no part of the key, which `with_seeds` has set
                run.__dict__ |= extras.asked_of(run)
            yield run


@dataclass(frozen=True)
class Extras:
    """What a run keeps beside its results; two blocks may ask for different things of one run."""

    trace: Trace = field(default_factory=Trace)
    weights: Literal["last"] | None = None
    predictions: bool = False

    @classmethod
    def of(cls, run: Run) -> Self:
        """Returns what a run asks for."""
        return cls(run.trace, run.record.weights, run.record.predictions)

    def asked_of(self, run: Run) -> dict[str, Any]:
        """Returns the sections of the run that ask for this."""
        kept = {"weights": self.weights, "predictions": self.predictions}
        return {"trace": self.trace, "record": run.record.model_copy(update=kept)}

    def joined(self, other: "Extras") -> "Extras":
        """Returns what either asks for; of two traces this one's."""
        trace = other.trace if self.trace == Trace() else self.trace
        return Extras(trace, self.weights or other.weights, self.predictions or other.predictions)


def read_cells(blocks: Sequence[Block], checks: Checks, problems: list[str]) -> list[Cell]:
    """Returns the cells of a sweep, each once, with the seeds of all blocks that ask for it.

    Args:
        blocks: of the file; where one has problems, the values that have none.
        checks: made on these blocks before.
        problems: a line is added for each cell that two blocks ask for differently.
    """
    return join(_expand(blocks, checks, problems), problems)


def join(found: Iterable[Cell], problems: list[str]) -> list[Cell]:
    """Returns the cells of all blocks, each once; as `read_cells`."""
    by_name: dict[str, Cell] = {}
    by_settings: dict[tuple[str, str], Cell] = {}
    for cell in found:
        first = by_name.setdefault(cell.name, cell)
        twin = by_settings.setdefault(cell.run.around_seed, cell)
        if first is not cell and twin is not first:
            rule = f"a cell's runs must differ in their seed alone, got {cell.name} as at {first.place} but with"
            remedy = "give one block a `variant:`"
            problems.append(f"{cell.place}: {rule} {_difference(first.run, cell.run)}; {remedy}")
        elif twin is not cell and twin.name != cell.name:
            rule = f"a run must be in one cell, got {cell.name} equal to {twin.name} at {twin.place}"
            problems.append(f"{cell.place}: {rule}; take it out of one block, or give both the same `variant:`")
        elif first is not cell:
            for seed, extras in cell.seeds.items():
                there = first.seeds.get(seed) or Extras()
                if extras is None:
                    first.seeds[seed] = None
                    continue
                if there.trace != extras.trace and Trace() not in {there.trace, extras.trace}:
                    rule = f"a run must have one trace, got two for {cell.name} seed {seed}, the first at {first.place}"
                    problems.append(f"{cell.place}: {rule}; ask for all of it in one block")
                first.seeds[seed] = there.joined(extras)
    return [*by_name.values()]


def _expand(blocks: Sequence[Block], checks: Checks, problems: list[str]) -> Iterator[Cell]:
    """Yields a cell for each choice of every block; the same cell may come from several blocks."""
    for block in blocks:
        seeds = dict.fromkeys(itertools.chain.from_iterable(block.seeds))
        if not seeds or not all(block.values(name) for name in ("data.name", "data.samples_per_class", "method")):
            continue
        for chosen in block.products():
            if chosen["method"].value not in registry.METHODS:
                continue
            try:
                run = Run(**_values(chosen, checks), seed=next(iter(seeds)))
            except ValidationError as error:
                if not problems:  # only `Run` itself makes this check
                    reasons = "; ".join(map(_told, error.errors()))
                    problems.append(f"{block.place}: {reasons}; correct the block")
                break
            for setting, reason in registry.METHODS[run.method].laws(run):
                place = chosen[setting].item.place if setting in chosen else chosen["method"].item.place
                if (line := f"{place}: {setting} {reason}") not in problems:
                    problems.append(line)
            name = block.cell_name(chosen, run.data.title or run.data.name)
            yield Cell(name, run, block.place, dict.fromkeys(seeds, Extras.of(run)))


def _told(part: Mapping[str, Any]) -> str:
    """A problem that a check of `Run` has found; a section's own check names the setting itself."""
    place, text = ".".join(map(str, part["loc"])), str(part["msg"]).removeprefix("Value error, ")
    return text if text.startswith(place) else f"{place} {text}"


def _values(chosen: Mapping[str, Choice], checks: Checks) -> dict[str, Any]:
    """Returns a cell's settings, nested, with the digests of the weights and images that it reads."""
    method = registry.METHODS[chosen["method"].value]
    values: dict[str, Any] = {}
    for dotted, choice in chosen.items():
        section, _, name = dotted.rpartition(".")
        if not section:
            values[dotted] = choice.value
        elif section != "options" or reads(method, dotted):
            values.setdefault(section, {})[name] = choice.value
    data, source = values["data"], values.get("source", {})
    path = data.get("path")
    for setting, takers in TAKERS.items():  # belongs to another data set of the block
        if setting != "data.path" and data["name"] not in takers:
            data.pop(setting.partition(".")[2], None)
    if data["name"] in WITH_PATH and path in checks.images:
        data["sha256"] = checks.images[path].sha256
        data["title"] = data.get("title") or Path(path).stem
    target = values.get("target", {})
    for network, default in ((source, Source().arch), (target, Target().arch)):
        if (file := weights_file(network.get("arch", default), network.get("weights"))) in checks.weights:
            network["sha256"] = checks.weights[str(file)]
    if source.get("weights") and not source.get("sha256"):  # weights still to be trained: two files, two sources
        source["sha256"] = hashlib.sha256(source["weights"].encode()).hexdigest()
    return values


def _difference(first: AnyRun, second: AnyRun) -> str:
    one, two = (flat(run.resolved()) for run in (first, second))
    names = [name for name in {**one, **two} if name != "seed" and one.get(name) != two.get(name)]
    return ", ".join(f"{name} {json.dumps(two.get(name))}, not {json.dumps(one.get(name))}" for name in names)
