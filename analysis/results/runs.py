"""Reads the finished runs of one or several sweeps into one tidy table.

Seeds are matched by value, never by position. Nothing is dropped silently: a wanted run without a usable result becomes
a gap with its reason, and anything else that a reader of the numbers should know becomes a notice.
"""

import contextlib
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.results.launches import Launch, read_launches
from analysis.results.metrics import CURVE, EXAMPLES, Declared, Derived, derive, is_derived
from analysis.results.wanted import TRANSFER, Factors, Wanted, distinct, from_entries, from_manifest, read_manifests
from l2t_ray.errors import InputError, suggest
from l2t_ray.ledger.entries import Details, Entry, ending, is_number
from l2t_ray.ledger.limits import CUT, PARAM_CHARACTERS, WHOLE, safe_name
from l2t_ray.ledger.reader import Reader, open_ledger

METRIC = "test_accuracy_percent"
PROVENANCE = ("git", "versions", "data_sha")
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
    by_key: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.kind == "run" and entry.key:
            by_key[entry.key].append(entry)
    unlisted = [entry for entry in entries if entry.kind == "run" and entry.experiment in chosen]
    listed = {run["key"] for manifest in manifests.values() for run in manifest["runs"]}
    ids = {entry.run_id for key in listed for entry in by_key[key]} | {
        entry.run_id for entry in unlisted if entry.experiment not in manifests
    }
    details = reader.details(ids)
    derived = _derived(metric, [entry for entry in entries if entry.run_id in ids], details, reader)
    notices.extend(restore_texts(details, [entry for entry in entries if entry.run_id in ids], reader))
    wanted: list[Wanted] = []
    for sweep in chosen:
        if sweep in manifests:
            factors = Factors(**manifests[sweep].get("factors", {}))
            found = [from_manifest(sweep, run, factors) for run in manifests[sweep]["runs"]]
            wanted_keys = {run.key for run in found}
            extra = sum(1 for entry in unlisted if entry.experiment == sweep and entry.key not in wanted_keys)
            if extra:
                notices.append(f"{sweep}: {_runs(extra)} in the ledger that the sweep no longer wants, left out here")
        else:
            found = from_entries(sweep, [entry for entry in unlisted if entry.experiment == sweep], details)
            if any(run.factors != TRANSFER for run in found):
                rule = f"{sweep}: the ledger must hold the sweep's manifest, with its metric and which end is better"
                remedy = "restore that run in MLflow, or launch or import the sweep again, which writes it anew"
                raise InputError(f"{rule}, got none (deleted in MLflow?); {remedy}")
            notices.append(f"{sweep}: the ledger has no manifest, so runs that never started are not counted")
        wanted.extend(found)
    settings = {
        run.key: details[entry.run_id].params
        for run in wanted
        for entry in [one for one in by_key[run.key] if one.status == "FINISHED"][:1]
    }
    wanted = distinct(wanted, notices, settings)
    rows, gaps = [], []
    for run in sorted(wanted, key=lambda run: run.sort_key):
        attempts = by_key[run.key]
        finished = [entry for entry in attempts if entry.status == "FINISHED"]
        if not finished:
            gaps.append(_gap(run, attempts, details))
            continue
        usable = (entry for entry in finished if is_number(details[entry.run_id].metrics.get(metric)))
        entry = next(usable, finished[0])  # the oldest, unless its metric is no number
        detail = details[entry.run_id]
        value = detail.metrics.get(metric)
        if len(finished) > 1:
            notices.append(_duplicates(run, finished, details, metric))
        if not is_number(value):
            gaps.append(Gap(run, "invalid", f"{name} is {'absent' if value is None else value}"))
            continue
        rows.append(_row(run, entry, detail))
    if not rows and any(gap.reason == f"{name} is absent" for gap in gaps):
        if derived:
            rule = f"metric {metric} needs test accuracies of two or more epochs of a run"
            raise InputError(f"{rule}, but no run has logged them; choose another metric")
        told = [manifest["metric"]["name"] for manifest in manifests.values() if manifest.get("metric")]
        true_names = {safe_name(true): true for true in told}
        logged = (true_names.get(kept, kept) for run_id in ids for kept in details[run_id].metrics)
        known = sorted({*EXAMPLES, *logged})
        raise InputError(f"metric must be one that runs have logged, got {name!r}; {suggest(name, known)}")
    notices.extend(_mixed(rows))
    notices.extend(_rounded_unlike(rows, details))
    restricted = derived.restricted(metric, (row["run_id"] for row in rows)) if derived else ""
    notices.extend([restricted] if restricted else [])
    launches, unreadable = read_launches(chosen, entries, reader)
    notices.extend(unreadable)
    frame = pd.DataFrame(rows, columns=[*IDENTITY] if not rows else None)
    designs = {sweep: found["design"] for sweep, found in manifests.items() if found.get("design")}
    frame.attrs[ABOUT] = {"metric": name, "declared": asdict(declared) if declared else None, "designs": designs}
    return Results(
        sweeps=tuple(chosen),
        runs=frame,
        wanted=tuple(wanted),
        gaps=tuple(gaps),
        notices=tuple(notices),
        designs=designs,
        uri=shown,
        reader=reader,
        entries={row["run_id"]: next(e for e in by_key[row["key"]] if e.run_id == row["run_id"]) for row in rows},
        launches=tuple(launches),
        settings=tuple(sorted({name for row in rows for name in details[row["run_id"]].params})),
        metric=metric,
        metric_name=name,
        declared=declared,
        is_listed=len(manifests) == len(chosen),
        restricted=restricted,
    )


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


def restore_texts(details: dict[str, Details], entries: Iterable[Entry], reader: Reader) -> list[str]:
    """Puts settings and tags that MLflow cut back to their whole length.

    Args:
        details: by run id; changed in place. A setting that stays cut is removed, because half of it would mislead.
        entries: of these runs.
        reader: of the ledger.

    Returns:
        A sentence for each setting that stays cut.
    """
    lost: dict[str, int] = defaultdict(int)
    for entry in entries:
        detail = details[entry.run_id]
        if any(text.endswith(CUT) for text in (*detail.params.values(), *detail.tags.values())):
            with contextlib.suppress(InputError, ValueError):  # unreachable or damaged: reported below
                whole = json.loads(reader.artifact(entry, WHOLE) or "{}")
                detail.params.update(whole.get("params", {}))
                detail.tags.update(whole.get("tags", {}))
        for name, text in [*detail.params.items()]:
            if text.endswith(CUT) or len(text) == PARAM_CHARACTERS:  # versions before 0.2 kept no whole text
                del detail.params[name]
                lost[name] += 1
    return [
        f"{name} is longer than the {PARAM_CHARACTERS:,} characters that MLflow keeps, and {_runs(n)} "
        f"{'has' if n == 1 else 'have'} no {WHOLE} with all of it; tables that need it leave them out"
        for name, n in lost.items()
    ]


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


def _duplicates(run: Wanted, finished: Sequence[Entry], details: dict[str, Details], metric: str) -> str:
    values = [details[entry.run_id].metrics.get(metric) for entry in finished]
    same = "all with the same result" if len(set(values)) == 1 else f"with results {', '.join(map(str, values))}"
    return f"{run.cell} seed {run.seed} ({run.key}) has finished {len(finished)} times, {same}; the oldest counts"


def _mixed(rows: Sequence[dict[str, Any]]) -> list[str]:
    words = {"git": "code (l2t.git)", "versions": "library versions (l2t.versions)", "data_sha": "data (l2t.data_sha)"}
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        for name in PROVENANCE:
            counts[row["cell"], name][row[name]] += 1
    notices = []
    for (cell, name), values in counts.items():
        if len(values) > 1:
            parts = "; ".join(f"{_shown(name, value, values)}: {_runs(n)}" for value, n in sorted(values.items()))
            notices.append(f"{cell}: runs come from different {words[name]}: {parts}")
    return notices


def _rounded_unlike(rows: Sequence[dict[str, Any]], details: Mapping[str, Details]) -> Iterable[str]:
    """Yields a line on cells whose runs had unlike numbers of CPU threads, and one on devices; old runs tell none."""
    for name, how in (("threads", "with different numbers of CPU threads"), ("device", "on different devices")):
        found: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            if value := details[row["run_id"]].tags.get(name):
                found[row["cell"]].add(value)
        mixed = [values for values in found.values() if len(values) > 1]
        if mixed:
            values = ", ".join(sorted({*chain.from_iterable(mixed)}, key=lambda text: (len(text), text)))
            cells = f"{len(mixed)} cell{'' if len(mixed) == 1 else 's'}"
            yield f"the runs of {cells} were trained {how} ({values}): their last bits differ"


def _shown(name: str, value: str, values: Iterable[str]) -> str:
    if not value:
        return "unknown"
    if name != "versions":
        return value[:12] + ("-dirty" if value.endswith("-dirty") else "")
    try:  # show only the versions that differ
        tables = {text: {key: str(found) for key, found in json.loads(text).items()} for text in values if text}
        differing = {
            key for table in tables.values() for key in table if len({t.get(key) for t in tables.values()}) > 1
        }
        return ", ".join(f"{key} {tables[value].get(key)}" for key in sorted(differing))
    except (ValueError, AttributeError):
        return value


def _runs(n: int) -> str:
    return f"{n} run{'' if n == 1 else 's'}"
