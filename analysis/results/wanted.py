"""The runs that should exist: from the manifest that a launch leaves in the ledger, else from the ledger's runs."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlparse

from l2t_ray.errors import InputError
from l2t_ray.ledger.entries import Details, Entry, artifact_place
from l2t_ray.ledger.reader import Reader
from l2t_ray.ledger.server import Server

MOST_SHOWN = 40  # characters of a setting in a sentence
METHODS = ("scratch", "ufm", "l2t_ww", "l2t_www")  # the thesis' order; further ones follow by name


@dataclass(frozen=True)
class Factors:
    """What varies between cells: titles of columns; the axis is empty where the sweep has none."""

    data: str = "data set"
    axis: str = "images a class"
    method: str = "method"


TRANSFER = Factors()  # of the built-in trainer


@dataclass(frozen=True)
class Wanted:
    """A run that should exist."""

    sweep: str  # the first one that wants it
    key: str  # hash of its settings
    cell: str  # `data/samples/method`, and `/variant` where there is one
    seed: int
    data: str
    samples_per_class: str  # images per class, or the label of an imbalanced set
    method: str
    variant: str = ""  # tells cells of one method apart
    others: tuple[str, ...] = ()  # further sweeps that want the same run
    factors: Factors = TRANSFER  # what the parts of the cell's name are

    @property
    def sweeps(self) -> tuple[str, ...]:
        """Every sweep that wants it."""
        return (self.sweep, *self.others)

    @property
    def sort_key(self) -> tuple[Any, ...]:
        """The order of tables: data set, images a class, the thesis' order of methods, variant, seed."""
        return (self.data, images(self.samples_per_class), order(self.method), self.variant, self.seed)


def order(method: str) -> tuple[int, str]:
    """A sort key of methods: the thesis' first, in its order; then the others by name."""
    return (METHODS.index(method) if method in METHODS else len(METHODS), method)


def images(label: str) -> tuple[float, str]:
    """A sort key of images per class: numbers first, by size; then the labels of imbalanced sets."""
    return (float(label) if is_number(label) else float("inf"), label)


def is_number(label: str) -> bool:
    """Whether a label is a number of at least 0."""
    return re.fullmatch(r"\d+(\.\d+)?(e[+-]?\d+)?", label) is not None


def read_manifests(sweeps: Iterable[str], entries: Iterable[Entry], reader: Reader) -> dict[str, dict[str, Any]]:
    """Returns each sweep's newest manifest, by sweep; none for a sweep that has none.

    Args:
        sweeps: names.
        entries: the ledger's, oldest first.
        reader: of the ledger.

    Raises:
        InputError: for a manifest that is lost or damaged: without it a report lacks the declared design, the metric's
            direction, and what is missing.
    """
    wanted = set(sweeps)
    newest = {entry.experiment: entry for entry in entries if entry.kind == "manifest" and entry.experiment in wanted}
    details = reader.details([entry.run_id for entry in newest.values()])
    return {sweep: _read_manifest(entry, details[entry.run_id].tags, reader) for sweep, entry in newest.items()}


def _read_manifest(entry: Entry, tags: Mapping[str, str], reader: Reader) -> dict[str, Any]:
    content = reader.artifact(entry, "manifest.json")
    digest = hashlib.sha256(content or b"").hexdigest()
    try:
        if tags.get("manifest_sha", digest) == digest:
            manifest: dict[str, Any] = json.loads(content or b"")
            for run in manifest["runs"]:
                run["key"], run["cell"], int(run["seed"])
            return manifest
    except (ValueError, KeyError, TypeError):
        pass
    place, got = artifact_place(entry, "manifest.json"), "no file" if content is None else "a damaged one"
    rule = f"{place} must be the list of runs that a launch wrote, got {got}"
    remedy = "copy it from a backup, or launch the sweep again, which writes it anew"
    if isinstance(reader, Server) and urlparse(entry.artifact_uri).scheme in {"", "file"}:
        remedy = "that is on the server's disk: start it with --serve-artifacts, or mount its folder here"
    raise InputError(f"{entry.experiment}: {rule}; {remedy}")


def from_manifest(sweep: str, run: dict[str, Any], factors: Factors = TRANSFER) -> Wanted:
    """A wanted run from an item of the manifest, whose cell is `data/samples/method`, or that and `/variant`."""
    parts = run["cell"].split("/")
    parts += [""] * (3 - len(parts))
    return Wanted(
        sweep=sweep,
        key=run["key"],
        cell=run["cell"],
        seed=int(run["seed"]),
        data=run.get("data") or parts[0],
        samples_per_class=(parts[1] if factors.axis else "") or str(run.get("samples_per_class", "")),
        method=run.get("method") or parts[2],
        variant="/".join(parts[3:]),
        factors=factors,
    )


def from_entries(sweep: str, entries: Iterable[Entry], details: Mapping[str, Details]) -> list[Wanted]:
    """The runs of a sweep without a manifest: one for each key that the ledger holds."""
    by_key: dict[str, Wanted] = {}
    for entry in entries:
        detail = details[entry.run_id]
        is_own = any(name.startswith("trainer.") for name in detail.params)
        axis = detail.tags.get("cell", "//").split("/")[1]
        factors = Factors("data", "" if axis == "-" else "axis", "method") if is_own else TRANSFER
        run = {
            "key": entry.key,
            "cell": detail.tags.get("cell", ""),
            "seed": detail.params.get("seed", "-1"),
            "method": detail.params.get("method"),
            "samples_per_class": detail.params.get("data.samples_per_class", ""),
        }
        by_key.setdefault(entry.key, from_manifest(sweep, run, factors))
    return list(by_key.values())


def distinct(wanted: Sequence[Wanted], notices: list[str], settings: Mapping[str, Mapping[str, str]]) -> list[Wanted]:
    """Returns one item per key.

    Where sweeps give the same cell different settings, each sweep's name becomes part of the variant.

    Args:
        wanted: of all sweeps.
        notices: receives a sentence for every such cell, and for every two sweeps that share runs.
        settings: of the finished runs, by key.

    Raises:
        InputError: if runs of one sweep and cell have the same seed, or differ in another setting.
    """
    unique: dict[str, Wanted] = {}
    shared: Counter[tuple[str, str]] = Counter()
    for run in wanted:
        first = unique.setdefault(run.key, run)
        if run.sweep not in first.sweeps:
            unique[run.key] = replace(first, others=(*first.others, run.sweep))
            shared.update((other, run.sweep) for other in first.sweeps)
    notices.extend(
        f"{one} and {other} share {n} run{'' if n == 1 else 's'}, counted once and under {one}"
        for (one, other), n in sorted(shared.items())
    )
    keys: dict[tuple[str, int], list[Wanted]] = defaultdict(list)
    for run in unique.values():
        keys[run.cell, run.seed].append(run)
    apart = {cell: "other runs of the same seeds" for (cell, _), runs in keys.items() if len(runs) > 1}
    apart |= _unlike_sweeps(unique.values(), settings)
    for (cell, seed), runs in keys.items():
        if len({run.sweep for run in runs}) < len(runs):
            raise InputError(
                f"{runs[0].sweep}: cell {cell} must hold one run a seed, got {len(runs)} for seed {seed} "
                f"({', '.join(run.key for run in runs)}); give the blocks a `variant:` in the sweep file"
            )
    named_apart = []
    for run in unique.values():
        if run.cell in apart:
            variant = "/".join(part for part in (run.variant, run.sweep) if part)
            named_apart.append(replace(run, variant=variant, cell=f"{run.cell}/{run.sweep}"))
        else:
            named_apart.append(run)
    notices.extend(
        f"{cell}: each sweep has other settings here ({difference}), so its runs become a variant of that name"
        for cell, difference in sorted(apart.items())
    )
    return named_apart


def _unlike_sweeps(wanted: Iterable[Wanted], settings: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Compares the finished runs of each cell.

    Args:
        wanted: of all sweeps.
        settings: of the finished ones, by key.

    Returns:
        The cells whose runs differ between sweeps in another setting than the seed, with that difference.

    Raises:
        InputError: if the runs of one sweep differ.
    """
    first: dict[str, dict[str, Wanted]] = defaultdict(dict)  # by cell and sweep
    unlike: dict[str, str] = {}
    for run in wanted:
        if run.key not in settings:
            continue
        mine = first[run.cell].setdefault(run.sweep, run)
        if difference := _difference(settings[mine.key], settings[run.key]):
            raise InputError(
                f"{run.sweep}: runs of cell {run.cell} must differ in their seed alone, got {difference} in seed "
                f"{run.seed} ({run.key}), unlike seed {mine.seed} ({mine.key}); report them as sweeps of their own"
            )
        for other in first[run.cell].values():
            if difference := _difference(settings[other.key], settings[run.key]):
                unlike.setdefault(run.cell, difference)
    return unlike


def _difference(one: Mapping[str, str], other: Mapping[str, str]) -> str:
    """The settings but the seed that both runs hold with different values; an older run may lack newer settings."""
    names = [name for name in sorted(one.keys() & other.keys() - {"seed"}) if one[name] != other[name]]
    return ", ".join(f"{name} {_short(one[name])} and {_short(other[name])}" for name in names)


def _short(value: str) -> str:
    return value if len(value) <= MOST_SHOWN else f"{value[:MOST_SHOWN]}..."
