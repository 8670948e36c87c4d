"""Enough seeds, and no more: a group-sequential design for Mann-Whitney tests, declared before the first run.

A cell's two methods are compared at a few looks, after so many seeds each. O'Brien-Fleming-like spending (Lan and
DeMets 1983) keeps the chance of a false claim over all looks at alpha. A cell stops for significance where |z| passes
the look's boundary, and for futility where a significant end has become unlikely; futility is non-binding: the error
rate is kept whether or not it is obeyed.

| symbol | meaning |
| --- | --- |
| t_k = n_k / n_K | information at look k |
| alpha(t) = 4 (1 - Phi(z_(alpha/4) / sqrt t)) | two-sided error spent up to t |
| c_k | boundary of the standard normal z at look k |

Pure functions of numbers: no pandas, no MLflow, so that a sweep may ask between two packs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from analysis.hypothesis import MIN_SEEDS, mann_whitney

State = Literal["continue", "significant", "futile", "not significant"]
N_NODES = 400  # of the Gauss-Legendre rule between two boundaries; 1e-9 is reached with a tenth
KEYS = {"looks", "alpha", "futility", "compare"}


@dataclass(frozen=True)
class Design:
    """What is declared before the start.

    Attributes:
        looks: seeds a method at each look, rising; the last is the most that is ever trained.
        alpha: two-sided error over all looks, of one cell.
        futility: a cell stops where the predictive probability of a significant end is below this; 0 never stops.
        compare: the two methods that the design is about.
    """

    looks: tuple[int, ...] = (10, 20, 30)
    alpha: float = 0.05
    futility: float = 0.1
    compare: tuple[str, str] = ("l2t_www", "l2t_ww")

    def __post_init__(self) -> None:
        if not isinstance(self.looks, tuple) or not all(type(n) is int for n in self.looks):
            raise ValueError(f"looks must be a list of whole numbers, got {self.looks!r}")
        for name, number in (("alpha", self.alpha), ("futility", self.futility)):
            if type(number) not in {int, float}:
                raise ValueError(f"{name} must be a number, got {number!r}")
        if not isinstance(self.compare, tuple) or not all(isinstance(name, str) for name in self.compare):
            raise ValueError(f"compare must be a list of two methods, got {self.compare!r}")
        if not self.looks or any(a >= b for a, b in zip(self.looks, self.looks[1:], strict=False)):
            raise ValueError(f"looks must be rising numbers of seeds, got {list(self.looks)}")
        if self.looks[0] < MIN_SEEDS:
            raise ValueError(f"looks must begin at {MIN_SEEDS} seeds or more, got {self.looks[0]}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1, got {self.alpha}")
        if not 0 <= self.futility < 1:
            raise ValueError(f"futility must be from 0 to below 1, got {self.futility}")
        if len(self.compare) != 2 or self.compare[0] == self.compare[1]:
            raise ValueError(f"compare must name two methods, got {list(self.compare)}")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The design as a sweep file or a manifest holds it.

        Args:
            values: looks, alpha, futility, compare; what is left out has its default.

        Returns:
            The design.

        Raises:
            ValueError: if there is an unknown entry.
        """
        unknown = sorted(values.keys() - KEYS)
        if unknown:
            raise ValueError(f"{unknown[0]} must be one of {', '.join(sorted(KEYS))}")
        pairs: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**pairs)

    def to_json(self) -> dict[str, Any]:
        """The design as plain values.

        Returns:
            What `from_json` takes.
        """
        return {
            "looks": list(self.looks), "alpha": self.alpha, "futility": self.futility, "compare": list(self.compare)
        }  # fmt: skip

    @cached_property
    def bounds(self) -> tuple[float, ...]:
        """c_k of every look."""
        return boundaries(tuple(n / self.looks[-1] for n in self.looks), self.alpha)

    @cached_property
    def levels(self) -> tuple[float, ...]:
        """The two-sided p at or below which each look is significant."""
        return tuple(float(2 * special.ndtr(-c)) for c in self.bounds)


@dataclass(frozen=True)
class Decision:
    """What the looks so far say of a cell.

    Attributes:
        state: continue, or why there is nothing more to train.
        look: looks taken, 0 before the first.
        n: values of x and y at the last look.
        p: Mann-Whitney's at the last look.
        level: the p that would have been significant there.
        n_next: seeds a method that the next look needs; those of the last look where the cell is decided.
    """

    state: State
    look: int
    n: tuple[int, int]
    p: float | None
    level: float | None
    n_next: int

    @property
    def is_decided(self) -> bool:
        """Whether no further run of the two methods is needed."""
        return self.state != "continue"


def decide(design: Design, x: Mapping[int, float | None], y: Mapping[int, float | None]) -> Decision:
    """Takes every look that the runs allow, in order, and stops where the design stops.

    A look is taken when the first n_k seeds of both methods have ended; its result uses those seeds alone, so it
    does not change when further runs arrive.

    Args:
        design: as declared.
        x: the n-th wanted seed (0, 1, ...) to the first method's value; None for a run that ended without one
            (diverged, failed for good); absent while it has not ended.
        y: the same for the second method.

    Returns:
        The decision after the last look taken.
    """
    decision = Decision("continue", 0, (0, 0), None, None, design.looks[0])
    for look, (n, level) in enumerate(zip(design.looks, design.levels, strict=True), start=1):
        if any(seed not in values for values in (x, y) for seed in range(n)):
            return decision
        left, right = ([v for seed in range(n) if (v := values[seed]) is not None] for values in (x, y))
        p = mann_whitney(left, right, alpha=level).p
        is_last = look == len(design.looks)
        state: State = "not significant" if is_last else "continue"
        if p is not None and p <= level:
            state = "significant"
        elif (
            not is_last and p is not None and _predictive(p, n / design.looks[-1], design.bounds[-1]) < design.futility
        ):
            state = "futile"
        n_next = n if state != "continue" else design.looks[look]
        decision = Decision(state, look, (len(left), len(right)), p, level, n_next)
        if decision.is_decided:
            return decision
    return decision


@cache
def boundaries(information: tuple[float, ...], alpha: float = 0.05) -> tuple[float, ...]:
    """The boundaries c_k of |z|, by recursive numerical integration (Armitage, McPherson and Rowe 1969).

    Args:
        information: t_k, rising to 1.
        alpha: two-sided error over all looks.

    Returns:
        One boundary a look.
    """
    spent = [spending(t, alpha) for t in information]
    found: list[float] = []
    nodes = density = np.empty(0)
    before = 0.0
    for k, t in enumerate(information):
        target = spent[k] - (spent[k - 1] if k else 0.0)
        if k == 0:
            bound = float(-special.ndtri(target / 2))
        else:
            step = math.sqrt(t - before)
            bound = float(optimize.brentq(_crossing, 0.0, 12.0, args=(t, step, nodes, density, target), xtol=1e-12))
        found.append(bound)
        if k + 1 == len(information):
            break
        # the density of the score b = z sqrt(t) of paths that have not crossed, with the rule's weights
        points, weights = _rule(bound * math.sqrt(t))
        if k == 0:
            values = np.exp(-(points**2) / (2 * t)) / math.sqrt(2 * math.pi * t)
        else:
            gaps = (points[:, None] - nodes[None, :]) / step
            values = (np.exp(-(gaps**2) / 2) @ density) / (step * math.sqrt(2 * math.pi))
        nodes, density, before = points, values * weights, t
    return tuple(found)


def spending(t: float, alpha: float = 0.05) -> float:
    """The O'Brien-Fleming-like spending function, alpha/2 for each side.

    Args:
        t: information, 0 to 1.
        alpha: two-sided error at t = 1.

    Returns:
        Two-sided error spent up to t.
    """
    return float(4 * special.ndtr(special.ndtri(alpha / 4) / math.sqrt(t))) if t > 0 else 0.0


def _crossing(
    bound: float, t: float, step: float, nodes: NDArray[np.float64], density: NDArray[np.float64], target: float
) -> float:
    edge = bound * math.sqrt(t)
    return float(2 * (special.ndtr((nodes - edge) / step) @ density) - target)


@cache
def _unit_rule() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points, weights = np.polynomial.legendre.leggauss(N_NODES)
    return points, weights


def _rule(edge: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points, weights = _unit_rule()
    return points * edge, weights * edge


def _predictive(p: float, t: float, last: float) -> float:
    """The probability of |Z_K| >= c_K given z at t, averaged over a flat prior of the drift (Choi et al. 1985)."""
    z = float(-special.ndtri(max(p, 1e-300) / 2))
    scale = math.sqrt(1 - t)
    return float(special.ndtr((z - last * math.sqrt(t)) / scale) + special.ndtr((-z - last * math.sqrt(t)) / scale))


def in_order(seeds: Sequence[int], values: Mapping[int, float], ended: Sequence[int] = ()) -> dict[int, float | None]:
    """What `decide` takes, of runs known by their seed.

    Args:
        seeds: all wanted ones; looks take them by rising number.
        values: seed to value of the finished runs.
        ended: seeds whose runs ended for good without a value.

    Returns:
        Position to value.
    """
    lost = set(ended)
    return {place: values.get(seed) for place, seed in enumerate(sorted(seeds)) if seed in values or seed in lost}
