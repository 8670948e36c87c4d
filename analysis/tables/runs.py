"""Tables of the runs (settings, code, versions, data, training time) and of the launches (predicted and spent time)."""

import json
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from analysis.results.launches import Launch
from analysis.results.runs import Results
from analysis.results.wanted import order
from analysis.tables.names import arm_name
from analysis.tables.table import NOTHING, Table

IN_EVERY_TABLE = {"data.name", "data.samples_per_class", "method", "seed"}
LONG = 48  # characters of a value; runs.csv has it in full
DIGEST = 12  # hex digits of a SHA-256; runs.csv has all


def settings_table(results: Results) -> Table | None:
    """The settings of the runs, a row for each value of each; None without settings."""
    runs, rows = results.runs, []
    methods = _methods(runs)
    for name in results.settings:
        if name in IN_EVERY_TABLE or name not in runs:
            continue
        values = runs[name].dropna()
        for value in sorted(values.unique(), key=str):
            if value == "null":
                continue
            with_value = runs.loc[values[values == value].index]
            users = _methods(with_value)
            names = "all" if users == methods else ", ".join(arm_name(method) for method in users)
            text = str(value)[:DIGEST] if name.endswith("sha256") else _short(str(value))
            rows.append((name, text, str(len(with_value)), names))
    if not rows:
        return None
    notes = (
        "A setting that a method does not read, or that is null, is not listed for it. Every value of every run is in "
        "runs.csv.",
    )
    return Table("settings", "Settings of the runs", ("setting", "value", "runs", "methods"), tuple(rows), notes,
                 n_text=4)  # fmt: skip


def origin_table(results: Results) -> Table | None:
    """Code, library versions and data of the runs, a row for each value; None without runs."""
    runs = results.runs
    if not len(runs):
        return None
    rows = [("code (git)", value or "unknown", str(n)) for value, n in sorted(Counter(runs["git"]).items())]
    counts: Counter[tuple[str, str]] = Counter()
    for text, n in sorted(Counter(runs["versions"]).items()):
        counts.update(dict.fromkeys(_versions(text), n))
    rows += [(name, version, str(n)) for (name, version), n in counts.items()]
    data = Counter(zip(runs["data"], runs["data_sha"], strict=True))
    rows += [(f"data of {name} (sha256)", sha[:DIGEST] or "unknown", str(n)) for (name, sha), n in sorted(data.items())]
    return Table("origin", "Code, versions and data of the runs", ("what", "value", "runs"), tuple(rows), n_text=3)


def cost_table(results: Results) -> Table | None:
    """Training time, a row for each method; None where no run has stored its time."""
    runs = results.runs
    if "wall_s" not in runs or not runs["wall_s"].notna().any():
        return None
    rows = []
    for method in _methods(runs):
        seconds = runs.loc[runs["method"] == method, "wall_s"].dropna()
        mean = f"{seconds.mean():.1f}" if len(seconds) else NOTHING
        rows.append((arm_name(method), str(len(seconds)), mean, f"{seconds.sum() / 3600:.2f}"))
    rows.append(("all", str(runs["wall_s"].count()), f"{runs['wall_s'].mean():.1f}",
                 f"{runs['wall_s'].sum() / 3600:.2f}"))  # fmt: skip
    notes = (
        "Training alone, of the runs shown: no failed attempt, and nothing that comes before it. The time of runs that "
        "were trained together is shared evenly among them; processes that share a device each count.",
    )
    header = ("method", "runs", "seconds a run", "hours in all")
    return Table("cost", "Training time", header, tuple(rows), notes, rules=(len(rows) - 1,))


def _methods(runs: pd.DataFrame) -> list[str]:
    return sorted(set(runs["method"]), key=order) if len(runs) else []


def _short(value: str) -> str:
    return value if len(value) <= LONG else f"{value[: LONG - 12].rstrip()} ... ({len(value)} characters)"


def _versions(text: str) -> Sequence[tuple[str, str]]:
    try:
        return [(str(name), str(version)) for name, version in json.loads(text).items()]
    except (ValueError, AttributeError):
        return [("versions", text or "unknown")]


def launches_tables(launches: Sequence[Launch]) -> list[Table]:
    """One table of predicted and spent time with a row for each launch; no table without launches."""
    if not launches:
        return []
    header = ("Sweep", "Devices", "Launch", "Runs", "Predicted (min)", "Took (min)", "Training predicted (h)")
    rows = []
    for launch in launches:
        busy = [f"{device.name} {device.mean_percent:.0f} %" for device in launch.devices if device.percent]
        rows.append((
            launch.sweep, launch.fleet, str(launch.number), str(launch.n_runs - launch.n_left),
            _number(launch.predicted_wall_s, 60), _number(launch.wall_s, 60), _number(launch.predicted_s, 3600),
            _number(launch.spent_s, 3600), ", ".join(busy) or NOTHING,
        ))  # fmt: skip
    table = Table(
        name="launches",
        title="What the launches took",
        header=(*header, "Training spent (h)", "Busy on average"),
        rows=tuple(rows),
        notes=(
            "Predicted from what had been measured or recorded when the launch began; a dash if that was not enough.",
            "Training time is the sum over all processes, which ran side by side, for runs that finished.",
        ),
        n_text=2,
    )
    return [table]


def _number(seconds: float | None, unit_s: float) -> str:
    return NOTHING if seconds is None else f"{seconds / unit_s:.2f}"
