"""Each method at its own settings and at its best ones, and what transfer adds to scratch under either.

A search (docs/howto/search.md) stores the best settings as a variant whose name ends in `tuned`. The question is
whether the gain of transfer shrinks when scratch gets its own learning rate. For a seed s, gain_s = method_s -
scratch_s on the same training images; the change is the mean of tuned gain_s - own gain_s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.results.cells import Cell, Condition
from analysis.results.comparison import Comparison, compare
from analysis.results.runs import Results
from analysis.results.wanted import TRANSFER
from l2t_ray.statistics.correction import holm
from l2t_ray.statistics.hypothesis import Finding, wilcoxon
from l2t_ray.statistics.means import Mean, mean_interval
from l2t_ray.statistics.ties import differences

TUNED = "tuned"
BASE = "scratch"


@dataclass(frozen=True)
class Tuning:
    """A method at its best settings against itself at its own."""

    own: Cell  # at its own settings
    tuned: Cell  # at its best ones; the same cell where the search found nothing better
    comparison: Comparison | None  # tuned minus own; None where they are the same cell
    settings: Mapping[str, tuple[str, str]]  # those that differ: dotted name -> (own, tuned)


@dataclass(frozen=True)
class Gain:
    """What a method adds to scratch when both use their own settings, and when both use their best ones."""

    own: Comparison  # method minus scratch, each at its own settings
    tuned: Comparison  # method minus scratch, each at its best ones
    change: Mean  # of the gain, over the seeds that all four cells have
    test: Finding  # Wilcoxon's signed-rank test of that change
    rises: bool  # by that test; the mean may point the other way
    p_holm: float | None = None  # its p, corrected over the changes of all gains


@dataclass(frozen=True)
class Tunings:
    """What tuning changed."""

    tunings: tuple[Tuning, ...] = ()  # one for each method and condition that has both
    gains: tuple[Gain, ...] = ()  # one for each of these beside scratch


def find_tunings(results: Results, cells: Sequence[Cell], *, alpha: float, margin: float, **more: Any) -> Tunings:
    """Compares own with best settings; Holm corrects over all tunings, over either kind of gain, over all changes.

    Args:
        results: finished runs.
        cells: of these runs.
        alpha: threshold of one test.
        margin: smallest difference that matters.
        **more: `is_lower_better` and `unit` of `Comparison`.

    Returns:
        The tunings, and what they change in the gains.
    """
    best = {(own, cell.method): cell for cell in cells if (own := own_condition(cell.condition)) is not None}
    searched = {condition for condition, _ in best}
    pairs = [
        (best.get((cell.condition, cell.method), cell), cell) for cell in cells if cell.condition in searched
    ]  # a cell without a tuned one was best at its own settings
    compared = {
        (item.b.condition, item.b.method): item
        for item in compare([(a, b) for a, b in pairs if a is not b], alpha=alpha, margin=margin, **more)
    }
    tunings = []
    for tuned_cell, own_cell in pairs:
        item = compared.get((own_cell.condition, own_cell.method))
        settings = {} if item is None else _differing(results, item)
        tunings.append(Tuning(own_cell, tuned_cell, item, settings))
    by_own = {(item.own.condition, item.own.method): item for item in tunings}
    rivals = [
        (item, by_own[item.own.condition, BASE])
        for item in tunings
        if item.own.condition.factors == TRANSFER
        if item.own.method != BASE and (item.own.condition, BASE) in by_own
    ]
    plain = compare([(item.own, base.own) for item, base in rivals], alpha=alpha, margin=margin)
    tuned = compare([(item.tuned, base.tuned) for item, base in rivals], alpha=alpha, margin=margin)
    gains = []
    for before, after in zip(plain, tuned, strict=True):
        gains.append(Gain(before, after, *_change(before, after)))
    p_holm = holm([gain.test.p for gain in gains])
    return Tunings(tuple(tunings), tuple(replace(gain, p_holm=p) for gain, p in zip(gains, p_holm, strict=True)))


def own_condition(condition: Condition) -> Condition | None:
    """The condition of the same cell at its own settings; None where the cell is not a tuned one."""
    *rest, last = condition.variant.split(" ")
    return replace(condition, variant=" ".join(rest)) if last == TUNED else None


def _change(own: Comparison, tuned: Comparison) -> tuple[Mean, Finding, bool]:
    before, after = _gain_by_seed(own), _gain_by_seed(tuned)
    seeds = sorted(before.keys() & after.keys())
    found, reverse = wilcoxon(after, before), wilcoxon(before, after)  # of each the rank sum of what is above 0
    change = mean_interval(_differences([after[seed] for seed in seeds], [before[seed] for seed in seeds]))
    return change, found, (found.statistic or 0.0) > (reverse.statistic or 0.0)


def _gain_by_seed(item: Comparison) -> dict[int, float]:
    seeds = [seed for seed in item.a.values if seed in item.b.values]
    gains = _differences([item.a.values[seed] for seed in seeds], [item.b.values[seed] for seed in seeds])
    return dict(zip(seeds, gains, strict=True))


def _differences(x: Sequence[float], y: Sequence[float]) -> list[float]:
    found: list[float] = differences(np.array(x, dtype=float), np.array(y, dtype=float)).tolist()
    return found


def _differing(results: Results, item: Comparison) -> dict[str, tuple[str, str]]:
    settings = [_settings(results, cell) for cell in (item.b, item.a)]
    names = sorted(settings[0].keys() | settings[1].keys())
    both = {name: (settings[0].get(name, ""), settings[1].get(name, "")) for name in names}
    return {name: values for name, values in both.items() if values[0] != values[1]}


def _settings(results: Results, cell: Cell) -> dict[str, str]:
    run_id = next(iter(cell.run_ids.values()), None)
    if run_id is None:
        return {}
    row = results.runs[results.runs["run_id"] == run_id].iloc[0]
    return {str(name): str(value) for name, value in row.items() if "." in str(name)}
