"""Groups runs into cells (runs that differ only in their seed) and pairs the cells to compare."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from analysis.results.metrics import digits_of
from analysis.results.runs import METRIC, Gap, Results
from analysis.results.wanted import TRANSFER, Factors, Wanted, images, order
from l2t_ray.errors import InputError, suggest
from l2t_ray.statistics.means import Mean, mean_interval

DEFAULT_PAIR = ("l2t_www", "l2t_ww")
BASELINE = "scratch"


@dataclass(frozen=True)
class Condition:
    """What two compared cells share: data set, images per class, variant."""

    data: str
    samples_per_class: str
    variant: str = ""
    factors: Factors = field(default=TRANSFER, compare=False)  # what these are

    def __str__(self) -> str:
        return "/".join(part for part in (self.data, self.samples_per_class, self.variant) if part)


@dataclass(frozen=True, eq=False)
class Cell:
    """All runs of one method under one condition."""

    condition: Condition
    method: str
    values: Mapping[int, float]  # seed -> last value of the metric
    n_wanted: int  # runs that should exist
    gaps: tuple[Gap, ...]  # those of them without a result
    run_ids: Mapping[int, str]  # seed -> MLflow's run id
    seeds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # sweep -> the seeds it wants, rising
    sweep: str = ""  # the first one that wants this cell
    n_th: int = 0  # its place in the manifests, from 0
    digits: int = 2  # decimals of its metric

    @property
    def arm(self) -> str:
        """`method/variant`, or the method alone where there is no variant."""
        return "/".join(part for part in (self.method, self.condition.variant) if part)

    @property
    def place(self) -> tuple[str, str]:
        """Data set and images per class."""
        return (self.condition.data, self.condition.samples_per_class)

    @cached_property
    def mean(self) -> Mean:
        """The mean over the seeds and its 95 % half-width."""
        return mean_interval([*self.values.values()])

    @property
    def is_complete(self) -> bool:
        """Whether every wanted run has a result."""
        return not self.gaps

    def without(self, seeds: Collection[int]) -> "Cell":
        """The cell in which no run of these seeds is missing any more; its results stay."""
        gaps = tuple(gap for gap in self.gaps if gap.wanted.seed not in seeds)
        return replace(self, gaps=gaps, n_wanted=self.n_wanted - (len(self.gaps) - len(gaps)))


def make_cells(results: Results, metric: str = METRIC) -> list[Cell]:
    """Groups the runs into cells, one for each condition and method, in the order of tables; values are of `metric`."""
    wanted: dict[tuple[Condition, str], list[Wanted]] = defaultdict(list)
    gaps: dict[tuple[Condition, str], list[Gap]] = defaultdict(list)
    values: dict[tuple[Condition, str], dict[int, float]] = defaultdict(dict)
    ids: dict[tuple[Condition, str], dict[int, str]] = defaultdict(dict)
    for run in results.wanted:
        wanted[_identity(run)].append(run)
    for gap in results.gaps:
        gaps[_identity(gap.wanted)].append(gap)
    places = {identity: place for place, identity in enumerate(wanted)}
    if len(results.runs):
        names = ["data", "samples_per_class", "variant", "method", "seed", "run_id", metric]
        for data, samples, variant, method, seed, run_id, value in results.runs[names].itertuples(index=False):
            cell = (Condition(data, samples, variant), method)
            values[cell][int(seed)] = float(value)
            ids[cell][int(seed)] = run_id
    return [
        Cell(
            condition=condition,
            method=method,
            values=dict(sorted(values[condition, method].items())),
            n_wanted=len(runs),
            gaps=tuple(gaps[condition, method]),
            run_ids=ids[condition, method],
            seeds={
                sweep: tuple(sorted(run.seed for run in runs if sweep in run.sweeps))
                for sweep in dict.fromkeys(sweep for run in runs for sweep in run.sweeps)
            },
            sweep=runs[0].sweep,
            n_th=places[condition, method],
            digits=digits_of(results.declared),
        )
        for (condition, method), runs in sorted(wanted.items(), key=lambda item: sort_key(*item[0]))
    ]


def _identity(run: Wanted) -> tuple[Condition, str]:
    return Condition(run.data, run.samples_per_class, run.variant, run.factors), run.method


def sort_key(condition: Condition, method: str = "") -> tuple[object, ...]:
    """The order of tables: data set, images per class, variant, then the thesis' order of methods."""
    return (condition.data, images(condition.samples_per_class), condition.variant, order(method))


def methods_of(cells: Iterable[Cell]) -> list[str]:
    """The methods of the cells, in the thesis' order."""
    return sorted({cell.method for cell in cells}, key=order)


def choose_pairs(
    cells: Sequence[Cell],
    *,
    names: Sequence[str] | None = None,
    baseline: str | None = None,
    declared: tuple[str, str] | None = None,
    told: str = "--compare",
) -> list[tuple[Cell, Cell]]:
    """Chooses the cells to compare.

    Args:
        cells: every cell of the report.
        names: what --compare names: two of `method` or `method/variant`.
        baseline: what --baseline names, likewise: every other method is compared with it.
        declared: the two methods that a sweep's design declared before its first run.
        told: what an error calls `names`.

    Returns:
        The pairs of cells that `names` asks for; else those of `baseline`; else the declared ones; else, of a trainer
        of the user's own, every method with the file's first; else every method with scratch, where that is one of
        them; else l2t_www with l2t_ww, or the last two in the thesis' order. None for a single method.

    Raises:
        InputError: if a name does not occur, or both are the same.
    """
    methods = methods_of(cells)
    known = [*methods, *sorted({f"{c.method}/{c.condition.variant}" for c in cells if c.condition.variant})]
    for flag, asked in ((told, names or ()), ("--baseline", [baseline] if baseline else ())):
        problems = [
            f"{flag} must name methods of these sweeps, got {name!r}; {suggest(name, known)}"
            for name in asked
            if name not in known
        ]
        if problems:
            raise InputError(problems)
    if names:
        if len(set(names)) < 2:
            raise InputError(f"{told} must name two different methods, got {names[0]} twice")
        return matched(cells, *names)
    if baseline:
        return against(cells, baseline)
    if declared:
        return matched(cells, *declared)
    if len(methods) < 2:
        return []
    if cells[0].condition.factors != TRANSFER:  # the file's first, which `n_th` tells
        return against(cells, min(cells, key=lambda cell: cell.n_th).method)
    if BASELINE in methods:
        return against(cells, BASELINE)
    return matched(cells, *(DEFAULT_PAIR if set(DEFAULT_PAIR) <= set(methods) else (methods[-1], methods[-2])))


def against(cells: Sequence[Cell], baseline: str) -> list[tuple[Cell, Cell]]:
    """Pairs every other cell with the baseline's at the same place, in the order of tables.

    Args:
        cells: every cell of the report.
        baseline: a method, of which the other cell's variant is taken, else the one without variant; or
            `method/variant`, which is taken for all.

    Returns:
        The pairs, the baseline second.
    """
    method, _, named = baseline.partition("/")
    bases = {(cell.place, cell.condition.variant): cell for cell in cells if cell.method == method}
    pairs = []
    for cell in cells:
        variants = [named] if named else [cell.condition.variant, ""]
        base = next((bases[cell.place, variant] for variant in variants if (cell.place, variant) in bases), None)
        if base is not None and (cell.method != method or (named and cell.condition.variant != named)):
            pairs.append((cell, base))
    return pairs


def matched(cells: Sequence[Cell], a: str, b: str) -> list[tuple[Cell, Cell]]:
    """Pairs the cells of a and b (`method` or `method/variant`) under equal conditions, in the order of tables."""
    names_variant = "/" in a or "/" in b  # then a name without a variant means the cells without one

    def place(cell: Cell, name: str) -> tuple[str, str, str] | None:
        method, _, variant = name.partition("/")
        if cell.method != method:
            return None
        if names_variant:
            return (*cell.place, "") if cell.condition.variant == variant else None
        return (*cell.place, cell.condition.variant)

    others = {place(cell, b): cell for cell in cells}
    return [(cell, others[where]) for cell in cells if (where := place(cell, a)) is not None and where in others]
