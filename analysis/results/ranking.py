"""All methods by their average rank over cells, a cell being a data set and a number of images a class."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.results.cells import Cell
from analysis.results.metrics import is_lower_better
from analysis.results.runs import METRIC
from analysis.results.wanted import TRANSFER, Factors
from l2t_ray.statistics.ranks import MIN_CELLS, MIN_METHODS, Ranks, average_ranks

Place = tuple[str, str]  # data set, images a class


@dataclass(frozen=True)
class Ranking:
    """Average ranks of the methods' means, Friedman's test, and Nemenyi's critical difference."""

    arms: tuple[str, ...]  # the best average rank first
    places: tuple[Place, ...]  # where all of them have results
    ranks: Ranks  # in the order of `arms`
    alpha: float  # of the critical difference
    is_lowest_first: bool  # whether rank 1 is the lowest mean
    arms_left_out: tuple[str, ...]  # those that have no result in one of the places
    places_left_out: tuple[Place, ...]  # those in which one of `arms` has no result
    factors: Factors = TRANSFER  # what the parts of a cell are


def rank_arms(
    cells: Sequence[Cell], *, metric: str = METRIC, alpha: float = 0.05, is_lowest_first: bool | None = None
) -> Ranking | None:
    """Ranks the means of the methods that share cells.

    Args:
        cells: of every method, in the order of tables.
        metric: whose means they hold; it decides whether rank 1 is the highest or the lowest.
        alpha: of the critical difference.
        is_lowest_first: decides in the metric's place.

    Returns:
        The ranking of those methods that together cover the most cells, each counted once a method; None where no
        `MIN_METHODS` methods share `MIN_CELLS` cells.
    """
    means: dict[Place, dict[str, float]] = defaultdict(dict)
    for cell in cells:
        if cell.mean.mean is not None:
            means[cell.place][cell.arm] = cell.mean.mean
    best: tuple[list[str], list[Place]] = ([], [])
    for here in means.values():
        places = [place for place, found in means.items() if here.keys() <= found.keys()]
        is_enough = len(here) >= MIN_METHODS and len(places) >= MIN_CELLS
        if is_enough and len(here) * len(places) > len(best[0]) * len(best[1]):
            best = [*here], places
    arms, places = best
    if not arms:
        return None
    is_lowest = is_lower_better(metric) if is_lowest_first is None else is_lowest_first

    def ranked(names: Sequence[str]) -> Ranks:
        rows = [[means[place][arm] for arm in names] for place in places]
        return average_ranks(rows, is_lower_better=is_lowest, alpha=alpha)

    average = dict(zip(arms, ranked(arms).means, strict=True))
    arms = sorted(arms, key=lambda arm: average[arm])
    return Ranking(
        arms=tuple(arms),
        places=tuple(places),
        ranks=ranked(arms),
        alpha=alpha,
        is_lowest_first=is_lowest,
        arms_left_out=tuple(dict.fromkeys(cell.arm for cell in cells if cell.arm not in arms)),
        places_left_out=tuple(dict.fromkeys(cell.place for cell in cells if cell.place not in places)),
        factors=cells[0].condition.factors,
    )
