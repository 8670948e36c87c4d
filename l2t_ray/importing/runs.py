"""Rows become runs with cells: the same settings are one cell, its seeds a sample; what is not clear is refused."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from l2t_ray.errors import InputError, count, suggest
from l2t_ray.importing.rows import FAILED, OPEN, Row, is_wandbs, metric_of, seed_of
from l2t_ray.ledger.spool import Ended
from l2t_ray.run import Metric
from l2t_ray.sweepfile.blocks import brief
from l2t_ray.sweepfile.own_names import Factors, label
from l2t_ray.trainer.outcome import TAKEN
from l2t_ray.trainer.run import NO_AXIS, OwnRun

SHOWN = 8  # names in a message


@dataclass(frozen=True)
class Asked:
    """What the command line says of the columns."""

    metric: Metric
    seed: str = "seed"
    method: tuple[str, ...] = ()  # the settings that are compared; empty for the one that varies
    axis: str = ""  # the setting that orders cells, as images a class do
    settings: tuple[str, ...] = ()  # all that tell runs apart; empty for every column but seed and results
    ignore: tuple[str, ...] = ()  # columns that are neither


@dataclass(frozen=True)
class Imported:
    """Runs with their results; of a sweep it has what the ledger's manifest reads."""

    name: str
    runs: Mapping[str, OwnRun]  # by key
    cells: Mapping[str, str]  # key to cell
    metric: Metric
    factors: Factors
    results: Mapping[str, Ended]  # by key; runs that had not ended are absent
    places: Mapping[str, str]  # key to where the run stands
    tools_names: Mapping[str, str]  # key to its name in the other tool
    notes: Sequence[str] = ()  # what the user has to know of the columns


def make_runs(name: str, rows: Sequence[Row], asked: Asked) -> Imported:
    """Returns the runs of rows.

    Args:
        name: of the sweep.
        rows: of one export.
        asked: the parts that columns play.

    Raises:
        InputError: with a line for every row without a seed or a number, for a column that is not there, for two rows
            of one run, and where no setting has two seeds.
    """
    chosen = _settings(rows, asked)
    problems: list[str] = []
    runs: dict[str, OwnRun] = {}
    results: dict[str, Ended] = {}
    places: dict[str, str] = {}
    tools_names: dict[str, str] = {}
    first: dict[str, Row] = {}
    dividing = _dividing(rows, asked, chosen)
    known = {setting for row in rows for setting in row.values}
    for row in rows:
        try:
            settings = {name: row.values.get(name) if name in known else row.get(name) for name in chosen}
            run = OwnRun(trainer={"name": name}, settings=settings, seed=seed_of(row, asked.seed))
            ended = _ended(run.key, row, asked.metric.name)
        except InputError as error:
            problems += error.problems
            continue
        if run.key in runs:
            rule = f"{row.place}: a setting must have each seed once, got seed {run.seed} as in {places[run.key]}"
            spare = [one for one in dividing if first[run.key].spare.get(one) != row.spare.get(one)]
            told = f"they differ in {', '.join(spare)}, left out: add --method {spare[0]}" if spare else ""
            problems.append(f"{rule}; {told or 'remove one, or name what tells them apart: --settings'}")
        first.setdefault(run.key, row)
        runs[run.key], places[run.key], tools_names[run.key] = run, row.place, row.name
        if ended:
            results[run.key] = ended
    if problems:
        raise InputError(problems)
    _refuse_single_seeds(runs.values(), asked)
    method, data = _parts(runs.values(), chosen, asked)
    cells = {key: _cell(run, data, asked.axis, method, name) for key, run in runs.items()}
    _refuse_equal_names(runs, cells, places)
    factors = Factors(", ".join(data) or "sweep", asked.axis, ", ".join(method) or "sweep")
    notes = _notes(_left_out(rows, asked, chosen))
    if dividing and len({run.around_seed for run in runs.values()}) == 1:
        rule = f"all runs have the same settings; they differ in {', '.join(dividing)}, left out"
        notes.append(f"{rule}: add --method {dividing[0]} to compare by it")
    return Imported(name, runs, cells, asked.metric, factors, results, places, tools_names, notes)


def _settings(rows: Sequence[Row], asked: Asked) -> list[str]:
    """The columns that tell runs apart, in the export's order."""
    known = [*dict.fromkeys(name for row in rows for name in row.values)]
    columns = [*dict.fromkeys([*known, *(name for row in rows for name in row.ended_with if name)])]
    metric = asked.metric.name
    problems = []
    if metric in TAKEN:
        problems.append(f"--metric must not be called {metric}, which every run has; rename that column")
    elif metric in columns and not any(metric in row.ended_with for row in rows):
        results = [*dict.fromkeys(name for row in rows for name in row.ended_with if name not in row.spare)]
        rule = f"--metric must name a result of the export, got {metric!r}, a setting"
        problems.append(f"{rule}; {suggest(metric, results)}")
    wanted = {"--metric": [asked.metric.name], "--seed": [asked.seed], "--method": asked.method}
    wanted |= {"--axis": [asked.axis] if asked.axis else [], "--settings": asked.settings, "--ignore": asked.ignore}
    for flag, names in wanted.items():
        for name in names:
            if name not in columns:
                problems.append(f"{flag} must name a column of the export, got {name!r}; {suggest(name, columns)}")
    if problems:
        raise InputError(problems)
    named = [*asked.settings, *asked.method, *([asked.axis] if asked.axis else [])]
    if asked.settings:
        return [*dict.fromkeys(named)]
    apart = {asked.seed, *asked.ignore, *(() if _is_setting_too(rows, metric) else (metric,))}
    return [*dict.fromkeys([*(name for name in known if name not in apart), *named])]


def _is_setting_too(rows: Sequence[Row], metric: str) -> bool:
    """Whether a setting has the metric's name and is no copy of it, as `loss: mse`."""
    return any(
        metric in row.values
        and metric in (row.results or {})
        and repr(row.values[metric]) != repr((row.results or {})[metric])
        for row in rows
    )


def _left_out(rows: Sequence[Row], asked: Asked, chosen: Sequence[str]) -> list[str]:
    """What the other tool keeps for itself and nobody has named."""
    named = {*chosen, asked.metric.name, asked.seed, *asked.ignore}
    return [*dict.fromkeys(name for row in rows for name in row.spare if name not in named)]


def _dividing(rows: Sequence[Row], asked: Asked, chosen: Sequence[str]) -> list[str]:
    """Columns among those left out that may be a setting: several values, each for two runs or more on average."""
    found = {name: {repr(row.spare.get(name)) for row in rows} for name in _left_out(rows, asked, chosen)}
    return [name for name, values in found.items() if 1 < len(values) <= len(rows) / 2 and name != "State"]


def _notes(names: Sequence[str]) -> list[str]:
    """The line of what is left out; none where nothing is."""
    shown = dict.fromkeys(name.partition(".")[0] if is_wandbs(name) else name for name in names)
    listed = ", ".join(name or "the first (it numbers the rows)" for name in shown)
    return [f"columns left out: {listed}; name one that counts: --method, --settings or --metric NAME"] if shown else []


def _ended(key: str, row: Row, metric: str) -> Ended | None:
    """How a run ended; None for one that is still running."""
    if row.state in OPEN:
        return None
    if row.state in FAILED:
        return Ended(key, "failed", reason=f"{row.state} in the export")
    value = metric_of(row, metric)
    if math.isfinite(value):
        return Ended(key, "finished", metrics={metric: [(1, value)]})
    return Ended(key, "diverged", reason=f"{metric} is {value} in the export", metrics={metric: [(1, value)]})


def _refuse_single_seeds(runs: Iterable[OwnRun], asked: Asked) -> None:
    """Refuses columns of results that were taken for settings: then nearly every run has settings of its own."""
    cells = Counter(run.around_seed for run in runs)
    n_runs = sum(cells.values())
    if n_runs < 2 or 2 * sum(1 for n in cells.values() if n == 1) <= len(cells):
        return
    values: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        for name, value in run.settings.items():
            values[name].add(repr(value))
    suspects = sorted((name for name, found in values.items() if len(found) > 1), key=lambda name: -len(values[name]))
    listed = ", ".join(f"{name} ({len(values[name])} values)" for name in suspects[:SHOWN])
    raise InputError(
        f"a setting must have several seeds, got {count(n_runs, 'run')} in {len(cells)} settings; these columns vary: "
        f"{listed}; name those that are settings (--settings), or results to leave out (--ignore)"
    )


def _refuse_equal_names(runs: Mapping[str, OwnRun], cells: Mapping[str, str], places: Mapping[str, str]) -> None:
    """Refuses different settings whose cells have one name, as `a/b` and `a b` do; a report could not tell them."""
    first: dict[str, str] = {}
    problems: dict[tuple[str, str], str] = {}
    for key, cell in cells.items():
        other = first.setdefault(cell, key)
        if runs[key].around_seed != runs[other].around_seed:
            rule = f"{places[key]}: a cell's runs must differ in their seed alone, got {cell} as at {places[other]}"
            problems.setdefault(runs[key].around_seed, f"{rule} but with other settings; rename one")
    if problems:
        raise InputError(problems.values())


def _parts(runs: Iterable[OwnRun], chosen: Sequence[str], asked: Asked) -> tuple[list[str], list[str]]:
    """The settings that are the method, and those that divide the data."""
    runs = [*runs]
    varying = [name for name in chosen if len({repr(run.settings[name]) for run in runs}) > 1]
    free = [name for name in varying if name != asked.axis and name not in asked.method]
    if asked.method:
        return [*asked.method], free
    if len(free) > 1:
        rule = f"--method must say which setting is compared where several vary, got {', '.join(free[:SHOWN])}"
        raise InputError(f"{rule}; add e.g. --method {free[0]}, several times for several together")
    return free, []


def _cell(run: OwnRun, data: Sequence[str], axis: str, method: Sequence[str], name: str) -> str:
    axis_text = brief(run.settings.get(axis)) if axis else NO_AXIS
    return "/".join((label(run, data) or name, axis_text or "_", label(run, method) or name))
