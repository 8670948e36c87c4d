"""Each method at its own settings and at its best ones, and what transfer adds to scratch under either.

A search (docs/search.md) writes the best settings as a variant whose name ends in `tuned`. Does what transfer seems to
win shrink when scratch gets its own learning rate? Notation: for a seed s, gain_s = method_s - scratch_s on the same
training images; the change is the mean of tuned gain_s - own gain_s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.results.cells import Cell, Condition
from analysis.results.comparison import Comparison, compare_pairs
from analysis.results.runs import Results
from l2t_ray.statistics.correction import holm
from l2t_ray.statistics.hypothesis import Finding, wilcoxon
from l2t_ray.statistics.means import Mean, mean_interval

TUNED = "tuned"
BASE = "scratch"


@dataclass(frozen=True)
class Tuning:
    """A method at its best settings against its own.

    Attributes:
        own: at its own settings.
        tuned: at its best ones; the same cell where nothing was better than its own.
        comparison: tuned minus own; None where they are the same.
        settings: that differ: dotted name to (own, tuned), as texts.
    """

    own: Cell
    tuned: Cell
    comparison: Comparison | None
    settings: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Gain:
    """What a method adds to scratch, each at its own settings and each at its best ones.

    Attributes:
        own: method minus scratch, at their own settings.
        tuned: the same at their best ones.
        change: of the gain, over the seeds that all four cells have.
        test: Wilcoxon's signed-rank test of that change.
        p_holm: its p, corrected over the changes of all gains.
    """

    own: Comparison
    tuned: Comparison
    change: Mean
    test: Finding
    p_holm: float | None = None


@dataclass(frozen=True)
class Tunings:
    """What tuning did.

    Attributes:
        tunings: of every method and condition that has both.
        gains: of every method beside scratch.
    """

    tunings: tuple[Tuning, ...] = ()
    gains: tuple[Gain, ...] = ()


def find_tunings(results: Results, cells: Sequence[Cell], *, alpha: float, margin: float) -> Tunings:
    """Finds the cells that stand at their own and at their best settings.

    Args:
        results: of the ledger, for the settings.
        cells: of those results.
        alpha: the threshold of a single test.
        margin: the smallest difference that matters.

    Returns:
        p corrected by Holm over all tunings; over all gains at their own and at their best settings each; and over all
        changes of the gains.
    """
    best = {(own, cell.method): cell for cell in cells if (own := own_condition(cell.condition)) is not None}
    searched = {condition for condition, _ in best}
    pairs = [
        (best.get((cell.condition, cell.method), cell), cell) for cell in cells if cell.condition in searched
    ]  # without a tuned cell, its own settings were the best
    compared = {
        (item.b.condition, item.b.method): item
        for item in compare_pairs([(a, b) for a, b in pairs if a is not b], alpha=alpha, margin=margin)
    }
    tunings = []
    for tuned_cell, own_cell in pairs:
        item = compared.get((own_cell.condition, own_cell.method))
        settings = {} if item is None else _differing(results, item)
        tunings.append(Tuning(own_cell, tuned_cell, item, settings))
    both = {(item.own.condition, item.own.method): item for item in tunings}
    rivals = [
        (item, both[item.own.condition, BASE])
        for item in tunings
        if item.own.method != BASE and (item.own.condition, BASE) in both
    ]
    plain = compare_pairs([(item.own, base.own) for item, base in rivals], alpha=alpha, margin=margin)
    tuned = compare_pairs([(item.tuned, base.tuned) for item, base in rivals], alpha=alpha, margin=margin)
    gains = []
    for before, after in zip(plain, tuned, strict=True):
        change, test = _change(before, after)
        gains.append(Gain(before, after, change, test))
    strict = holm([gain.test.p for gain in gains])
    return Tunings(tuple(tunings), tuple(replace(gain, p_holm=p) for gain, p in zip(gains, strict, strict=True)))


def own_condition(condition: Condition) -> Condition | None:
    """The condition at the settings of one's own.

    Args:
        condition: of a cell.

    Returns:
        None where the cell is not a tuned one.
    """
    *rest, last = condition.variant.split(" ")
    return replace(condition, variant=" ".join(rest)) if last == TUNED else None


def _change(own: Comparison, tuned: Comparison) -> tuple[Mean, Finding]:
    before, after = _gain_by_seed(own), _gain_by_seed(tuned)
    seeds = sorted(before.keys() & after.keys())
    return mean_interval([after[seed] - before[seed] for seed in seeds]), wilcoxon(after, before)


def _gain_by_seed(item: Comparison) -> dict[int, float]:
    return {seed: value - item.b.values[seed] for seed, value in item.a.values.items() if seed in item.b.values}


def _differing(results: Results, item: Comparison) -> dict[str, tuple[str, str]]:
    settings = [_settings(results, cell) for cell in (item.b, item.a)]
    names = sorted(settings[0].keys() | settings[1].keys())
    found = {name: (settings[0].get(name, ""), settings[1].get(name, "")) for name in names}
    return {name: values for name, values in found.items() if values[0] != values[1]}


def _settings(results: Results, cell: Cell) -> dict[str, str]:
    run_id = next(iter(cell.run_ids.values()), None)
    if run_id is None:
        return {}
    row = results.runs[results.runs["run_id"] == run_id].iloc[0]
    return {str(name): str(value) for name, value in row.items() if "." in str(name)}
