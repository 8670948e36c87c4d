"""Reads the finished runs of one or several sweeps into one tidy table.

Seeds are matched by value, never by position. Nothing is dropped silently: a wanted run without a usable result becomes
a gap with its reason, and anything else that a reader of the numbers should know becomes a notice.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd

from analysis.results.launches import Launch, read_launches
from analysis.results.metrics import CURVE, EXAMPLES, Declared, Derived, derive, is_derived
from analysis.results.notices import PROVENANCE, duplicates, mixed, restore_texts, rounded_unlike
from analysis.results.wanted import TRANSFER, Factors, Wanted, distinct, from_entries, from_manifest, read_manifests
from l2t_ray.errors import InputError, count, suggest
from l2t_ray.ledger.entries import Details, Entry, ending, is_number
from l2t_ray.ledger.limits import safe_name
from l2t_ray.ledger.reader import Reader, open_ledger

METRIC = "test_accuracy_percent"
IDENTITY = (
    "sweep", "cell", "data", "samples_per_class", "n_images", "method", "variant", "seed", "key", "run_id",
    "experiment_id",
)  # fmt: skip

ABOUT = "l2t"  # key of `runs.attrs`: the metric by which runs were read, and what the sweeps declared
LACKING = "incomplete"  # outcome of a finished run that did not store what a table shows


@dataclass(frozen=True)
class Gap:
    """A wanted run without a result that can be used."""

    wanted: Wanted
    outcome: str  # missing, running, diverged, failed, invalid, incomplete
    reason: str = ""


@dataclass(frozen=True)
class Results:
    """Finished runs, and what is known about them."""

    sweeps: tuple[str, ...]
    # a row per run: `IDENTITY`, provenance, last metrics, and the settings under their dotted names
    runs: pd.DataFrame
    wanted: tuple[Wanted, ...]  # every run that should exist
    gaps: tuple[Gap, ...]  # those of them without a usable result
    notices: tuple[str, ...]  # what a reader of the numbers should know, one sentence each
    designs: dict[str, dict[str, Any]]  # the group-sequential design that each sweep declared, as its manifest holds it
    uri: str  # of the ledger, without its password
    reader: Reader  # the ledger, for curves and traces
    entries: dict[str, Entry]  # MLflow's entry of every row, by run id
    launches: tuple[Launch, ...]
    settings: tuple[str, ...] = ()  # the columns of `runs` that hold settings
    metric: str = METRIC  # by which runs are compared: a column of `runs`
    metric_name: str = METRIC  # its true name, which MLflow may not take
    declared: Declared | None = None  # what the sweep files say of that metric, where the trainer is the user's own
    is_listed: bool = True  # whether every sweep has a manifest; without one, runs that never started are unknown
    restricted: str = ""  # why means are of a restricted metric, if they are; one of `notices`

    def histories(
        self, metric: str, run_ids: Collection[str] | None = None, epochs: Collection[int] | None = None
    ) -> pd.DataFrame:
        """The logged values of a metric: columns run_id, epoch, value, sorted by run and epoch; of all, if not told."""
        rows = self.reader.histories(self.entries if run_ids is None else run_ids, metric, epochs)
        return pd.DataFrame(rows, columns=["run_id", "epoch", "value"])


def read_results(
    sweeps: Sequence[str] = (), *, uri: str | None = None, folder: Path = Path(), metric: str | None = None
) -> Results:
    """Returns the finished runs of the sweeps.

    Args:
        sweeps: names; none means every sweep in the ledger.
        uri: of MLflow; by default MLFLOW_TRACKING_URI, then `mlflow.db` in the working folder.
        folder: the working folder.
        metric: a run whose last value of it is absent or not finite is a gap; or one that follows from the curve of
            test accuracy (analysis/results/metrics.py); by default what the sweep files say, else test accuracy.

    Raises:
        InputError: if there is no such ledger, sweep or metric, no run at all, or a manifest is lost or damaged.
    """
    reader, shown = open_ledger(uri, folder)
    entries = reader.entries()
    return _read(reader, shown, entries, _choose(sweeps, entries, uri, folder, shown), metric)


def read_again(results: Results, metric: str) -> Results:
    """Returns the same sweeps read by another metric; arguments and errors as `read_results`."""
    return _read(results.reader, results.uri, results.reader.entries(), results.sweeps, metric)


def _read(reader: Reader, shown: str, entries: Sequence[Entry], chosen: Sequence[str], metric: str | None) -> Results:
    manifests, notices = read_manifests(chosen, entries, reader), list[str]()
    declared = _declared(metric, manifests)
    name = declared.name if declared else metric or METRIC
    metric = safe_name(name)
    if metric in (*IDENTITY, *PROVENANCE):
        rule = f"metric must not be called {name}, which every run has"
        raise InputError(f"{rule}; rename the result, and train or import the runs again under another sweep name")
    runs = [entry for entry in entries if entry.kind == "run" and (entry.key or entry.experiment in chosen)]
    by_key: dict[str, list[Entry]] = defaultdict(list)
    for entry in runs:
        if entry.key:
            by_key[entry.key].append(entry)
    read = [*_entries_of(manifests, runs, chosen)]
    details = reader.details([entry.run_id for entry in read])
    derived = _derived(metric, read, details, reader)
    notices.extend(restore_texts(details, read, reader))
    wanted = _wanted(chosen, manifests, runs, details, notices)
    rows, gaps = [], []
    for run in sorted(wanted, key=lambda run: run.sort_key):
        finished = [entry for entry in by_key[run.key] if entry.status == "FINISHED"]
        if not finished:
            gaps.append(_gap(run, by_key[run.key], details))
            continue
        if len(finished) > 1:
            notices.append(duplicates(run, finished, details, metric))
        usable = (entry for entry in finished if is_number(details[entry.run_id].metrics.get(metric)))
        entry = next(usable, finished[0])  # the oldest, unless its metric is no number
        value = details[entry.run_id].metrics.get(metric)
        if is_number(value):
            rows.append(_row(run, entry, details[entry.run_id]))
        else:
            gaps.append(Gap(run, "invalid", f"{name} is {'absent' if value is None else value}"))
    if not rows and any(gap.reason == f"{name} is absent" for gap in gaps):
        _refuse_metric(name, manifests, details, is_derived=derived is not None)
    notices.extend(mixed(rows))
    notices.extend(rounded_unlike(rows, details))
    restricted = derived.restricted(metric, (row["run_id"] for row in rows)) if derived else ""
    notices.extend([restricted] if restricted else [])
    launches, unreadable = read_launches(chosen, entries, reader)
    notices.extend(unreadable)
    frame = pd.DataFrame(rows, columns=[*IDENTITY] if not rows else None)
    designs = {sweep: found["design"] for sweep, found in manifests.items() if found.get("design")}
    frame.attrs[ABOUT] = {"metric": name, "declared": asdict(declared) if declared else None, "designs": designs}
    used = {row["run_id"] for row in rows}
    return Results(
        sweeps=tuple(chosen),
        runs=frame,
        wanted=tuple(wanted),
        gaps=tuple(gaps),
        notices=tuple(notices),
        designs=designs,
        uri=shown,
        reader=reader,
        entries={entry.run_id: entry for entry in read if entry.run_id in used},
        launches=tuple(launches),
        settings=tuple(sorted({name for run_id in used for name in details[run_id].params})),
        metric=metric,
        metric_name=name,
        declared=declared,
        is_listed=len(manifests) == len(chosen),
        restricted=restricted,
    )


def _entries_of(
    manifests: Mapping[str, Mapping[str, Any]], runs: Sequence[Entry], chosen: Collection[str]
) -> Iterator[Entry]:
    """Yields the entries of every run that a manifest lists, or that a sweep without one holds."""
    own = {entry.run_id: entry for entry in runs if entry.experiment in chosen and entry.experiment not in manifests}
    keys = {run["key"] for manifest in manifests.values() for run in manifest["runs"]}
    keys |= {entry.key for entry in own.values() if entry.key}
    yield from (entry for entry in runs if entry.key in keys or entry.run_id in own)


def _wanted(
    chosen: Sequence[str],
    manifests: Mapping[str, Mapping[str, Any]],
    runs: Sequence[Entry],
    details: Mapping[str, Details],
    notices: list[str],
) -> list[Wanted]:
    """The runs that should exist, one for each key; adds what a reader should know of the lists to the notices."""
    found: list[Wanted] = []
    for sweep in chosen:
        own = [entry for entry in runs if entry.experiment == sweep]
        if sweep in manifests:
            factors = Factors(**manifests[sweep].get("factors", {}))
            listed = [from_manifest(sweep, run, factors) for run in manifests[sweep]["runs"]]
            keys = {run.key for run in listed}
            if extra := sum(entry.key not in keys for entry in own):
                notices.append(
                    f"{sweep}: {count(extra, 'run')} in the ledger that the sweep no longer wants, left out here"
                )
        else:
            listed = from_entries(sweep, own, details)
            if any(run.factors != TRANSFER for run in listed):
                rule = f"{sweep}: the ledger must hold the sweep's manifest, with its metric and which end is better"
                remedy = "restore that run in MLflow, or launch or import the sweep again, which writes it anew"
                raise InputError(f"{rule}, got none (deleted in MLflow?); {remedy}")
            notices.append(f"{sweep}: the ledger has no manifest, so runs that never started are not counted")
        found.extend(listed)
    oldest = {entry.key: entry for entry in reversed(runs) if entry.status == "FINISHED"}
    settings = {run.key: details[oldest[run.key].run_id].params for run in found if run.key in oldest}
    return distinct(found, notices, settings)


def _refuse_metric(
    name: str, manifests: Mapping[str, Mapping[str, Any]], details: Mapping[str, Details], *, is_derived: bool
) -> NoReturn:
    """Refuses a metric that no finished run has, and suggests one."""
    if is_derived:
        rule = f"metric {name} needs test accuracies of two or more epochs of a run"
        raise InputError(f"{rule}, but no run has logged them; choose another metric")
    told = [manifest["metric"]["name"] for manifest in manifests.values() if manifest.get("metric")]
    true_names = {safe_name(true): true for true in told}
    logged = (true_names.get(kept, kept) for detail in details.values() for kept in detail.metrics)
    known = sorted({*EXAMPLES, *logged})
    raise InputError(f"metric must be one that runs have logged, got {name!r}; {suggest(name, known)}")


def _declared(metric: str | None, manifests: Mapping[str, Mapping[str, Any]]) -> Declared | None:
    """What the sweep files say of the metric, or of the one that they name; None for the built-in trainer's."""
    told = {sweep: manifest["metric"] for sweep, manifest in manifests.items() if manifest.get("metric")}
    names = {sweep: told[sweep]["name"] if sweep in told else METRIC for sweep in manifests}
    if metric is None and len({*names.values()}) > 1:
        listed = ", ".join(f"{name} in {sweep}" for sweep, name in names.items())
        raise InputError(f"sweeps of one report must have one metric, got {listed}; name a metric, or fewer sweeps")
    wanted = metric or next(iter(names.values()), METRIC)
    kept = safe_name(wanted)  # either name may be given
    found = {tuple(sorted(values.items())) for values in told.values() if safe_name(values["name"]) == kept}
    if len(found) > 1:
        raise InputError(f"{wanted}: sweeps of one report must say the same of it; report them one by one")
    return Declared(**dict(found.pop())) if found else None


def _derived(metric: str, entries: Iterable[Entry], details: dict[str, Details], reader: Reader) -> Derived | None:
    """Adds a derived metric to the details of finished runs with a curve; returns None for a metric that is logged."""
    if not is_derived(metric):
        return None
    derived = derive(metric, reader.histories([one.run_id for one in entries if one.status == "FINISHED"], CURVE))
    for run_id, value in derived.values.items():
        details[run_id].metrics[metric] = value
    return derived


def _choose(sweeps: Sequence[str], entries: Sequence[Entry], uri: str | None, folder: Path, shown: str) -> list[str]:
    known = list(dict.fromkeys(entry.experiment for entry in entries))
    for name in sweeps:
        if name not in known:
            from l2t_ray.ledger.ledger import Ledger

            Ledger(name, uri, folder=folder).check()  # names the command that restores a deleted experiment
    if not known:
        raise InputError(f"{shown}: the ledger must hold runs, got none; run `python -m l2t_ray.sweep FILE` first")
    unknown = [name for name in sweeps if name not in known]
    if unknown:
        raise InputError([f"{shown}: no sweep {name!r}; {suggest(name, known)}" for name in unknown])
    return list(dict.fromkeys(sweeps)) or known


def _gap(run: Wanted, attempts: Sequence[Entry], details: dict[str, Details]) -> Gap:
    ended = [entry for entry in attempts if entry.status != "KILLED"]  # the launch died while it wrote: no attempt
    if not ended:
        return Gap(run, "missing", details[attempts[-1].run_id].tags.get("reason", "") if attempts else "")
    last = ended[-1]
    if last.status != "FAILED":
        return Gap(run, "running", f"MLflow says that run {last.run_id} is {last.status}")
    return Gap(run, *ending(details[last.run_id].tags))


def _row(run: Wanted, entry: Entry, detail: Details) -> dict[str, Any]:
    label = run.samples_per_class
    row: dict[str, Any] = {
        "sweep": run.sweep,
        "cell": run.cell,
        "data": run.data,
        "samples_per_class": label,
        "n_images": int(label) if re.fullmatch("[0-9]{1,18}", label) else None,
        "method": run.method,
        "variant": run.variant,
        "seed": run.seed,
        "key": run.key,
        "run_id": entry.run_id,
        "experiment_id": entry.experiment_id,
        **{name: detail.tags.get(name, "") for name in PROVENANCE},
    }
    for further in (detail.metrics, detail.params):  # a run is what it is, whatever its results are called
        row.update((name, value) for name, value in sorted(further.items()) if name not in row)
    return row
