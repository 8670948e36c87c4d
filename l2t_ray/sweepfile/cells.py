"""Cells: runs that differ in their seed alone. Blocks become cells; two that disagree about a cell are refused."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from l2t_ray import registry
from l2t_ray.config import Run, Trace
from l2t_ray.sweepfile.blocks import Block, Choice, reads
from l2t_ray.sweepfile.checks import WITH_PATH, Laws


@dataclass
class Cell:
    """Runs that differ in their seed alone.

    Attributes:
        name: `data/samples/method`, and `/variant`.
        run: the first one.
        place: of the block that asks for it first.
        seeds: in order, each with what its run keeps of its training.
    """

    name: str
    run: Run
    place: str
    seeds: dict[int, Trace]

    def runs(self) -> Iterator[Run]:
        """The cell's runs.

        Yields:
            One a seed, in order.
        """
        for run in self.run.with_seeds(self.seeds):
            if self.seeds[run.seed] != run.trace:
                run.__dict__["trace"] = self.seeds[run.seed]  # no part of the key that `with_seeds` has made
            yield run


def read_cells(blocks: Sequence[Block], laws: Laws, problems: list[str]) -> list[Cell]:
    """The cells of a sweep.

    Args:
        blocks: of the file; of a block with problems, the values without.
        laws: that have been checked on them.
        problems: a line is added for each cell that two blocks ask for differently.

    Returns:
        Each cell once, with the seeds of all blocks that ask for it.
    """
    return _merge(_expand(blocks, laws, problems), problems)


def _expand(blocks: Sequence[Block], laws: Laws, problems: list[str]) -> Iterator[Cell]:
    for block in blocks:
        seeds = dict.fromkeys(itertools.chain.from_iterable(block.seeds))
        if not seeds or not all(block.values(name) for name in ("data.name", "data.samples_per_class", "method")):
            continue
        for chosen in block.products():
            if chosen["method"].value not in registry.METHODS:
                continue
            try:
                run = Run(**_values(chosen, laws), seed=next(iter(seeds)))
            except ValidationError as error:
                if not problems:  # a law of `Run` that no other check knows
                    told = "; ".join(f"{'.'.join(map(str, part['loc']))} {part['msg']}" for part in error.errors())
                    problems.append(f"{block.place}: {told}; correct the block")
                break
            for setting, told in registry.METHODS[run.method].laws(run):
                place = chosen[setting].item.place if setting in chosen else chosen["method"].item.place
                if (line := f"{place}: {setting} {told}") not in problems:
                    problems.append(line)
            name = block.cell_name(chosen, run.data.title or run.data.name)
            yield Cell(name, run, block.place, dict.fromkeys(seeds, run.trace))


def _values(chosen: Mapping[str, Choice], laws: Laws) -> dict[str, Any]:
    """A cell's settings, nested, with the digests of what it reads."""
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
    if data["name"] not in WITH_PATH:
        data.pop("sha256", None)  # of another data set of the block
    elif path in laws.images:
        data["sha256"] = laws.images[path].sha256
        data["title"] = data.get("title") or Path(path).stem
    if source.get("weights") in laws.weights:
        source["sha256"] = laws.weights[source["weights"]]
    elif source.get("weights") and not source.get("sha256"):  # not there yet: two files are two sources all the same
        source["sha256"] = hashlib.sha256(source["weights"].encode()).hexdigest()
    return values


def _merge(found: Iterator[Cell], problems: list[str]) -> list[Cell]:
    """Cells by name: the same runs asked for twice are one, different runs under one name are refused."""
    by_name: dict[str, Cell] = {}
    by_settings: dict[tuple[str, str], Cell] = {}
    for cell in found:
        first = by_name.setdefault(cell.name, cell)
        twin = by_settings.setdefault(cell.run.around_seed, cell)
        if first is not cell and twin is not first:
            law = f"a cell's runs must differ in their seed alone, got {cell.name} as at {first.place} but with"
            remedy = "give one block a `variant:`"
            problems.append(f"{cell.place}: {law} {_difference(first.run, cell.run)}; {remedy}")
        elif twin is not cell and twin.name != cell.name:
            law = f"a run must be in one cell, got {cell.name} equal to {twin.name} at {twin.place}"
            problems.append(f"{cell.place}: {law}; take it out of one block, or give both the same `variant:`")
        elif first is not cell:
            for seed, trace in cell.seeds.items():
                there = first.seeds.get(seed, Trace())
                if there != trace and Trace() not in {there, trace}:
                    law = f"a run must have one trace, got two for {cell.name} seed {seed}, the first at {first.place}"
                    problems.append(f"{cell.place}: {law}; ask for all of it in one block")
                first.seeds[seed] = trace if there == Trace() else there
    return [*by_name.values()]


def _difference(first: Run, second: Run) -> str:
    one, two = (_flat(run.resolved()) for run in (first, second))
    names = [name for name in {**one, **two} if name != "seed" and one.get(name) != two.get(name)]
    return ", ".join(f"{name} {json.dumps(two.get(name))}, not {json.dumps(one.get(name))}" for name in names)


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat = {}
    for section, values in settings.items():
        flat.update(
            {f"{section}.{name}": value for name, value in values.items()}
            if isinstance(values, dict)
            else {section: values}
        )
    return flat
