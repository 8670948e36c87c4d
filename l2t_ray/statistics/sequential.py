"""A group-sequential design for Mann-Whitney tests, declared before the first run: enough seeds, and no more.

A cell's two methods are compared at a few looks, each after a number of seeds. O'Brien-Fleming-like spending (Lan and
DeMets 1983) keeps the chance of a false claim over all looks at alpha. A cell stops for significance where |z| passes
the look's boundary, and for futility where a significant end has become unlikely. Futility is non-binding: the error
rate is kept whether or not it is obeyed.

Pure functions of numbers without pandas and MLflow, so that a sweep can decide between two packs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

from scipy import special

from l2t_ray.statistics.boundaries import boundaries, smallest_alpha
from l2t_ray.statistics.hypothesis import MIN_SEEDS, mann_whitney

State = Literal["continue", "significant", "futile", "not significant"]
KEYS = {"looks", "alpha", "futility", "compare"}


@dataclass(frozen=True)
class Design:
    """A design as declared before the sweep starts."""

    # seeds a method at each look, rising; the last is the most that is ever trained
    looks: tuple[int, ...] = (10, 20, 30)
    alpha: float = 0.05  # two-sided error over all looks, of one cell
    # a cell stops where the predictive probability of a significant end is below this; 0 never stops
    futility: float = 0.1
    compare: tuple[str, str] = ("l2t_www", "l2t_ww")  # the two methods to compare

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
        """Returns the design that a sweep file or a manifest holds; entries that are left out have their defaults.

        Raises:
            ValueError: if there is an unknown entry.
        """
        unknown = sorted(values.keys() - KEYS)
        if unknown:
            raise ValueError(f"{unknown[0]} must be one of {', '.join(sorted(KEYS))}")
        pairs: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**pairs)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, which `from_json` takes."""
        return {
            "looks": list(self.looks), "alpha": self.alpha, "futility": self.futility, "compare": list(self.compare)
        }  # fmt: skip

    @property
    def information(self) -> tuple[float, ...]:
        """t_k of every look."""
        return tuple(n / self.looks[-1] for n in self.looks)

    @cached_property
    def bounds(self) -> tuple[float, ...]:
        """c_k of every look."""
        return boundaries(self.information, self.alpha)

    @cached_property
    def levels(self) -> tuple[float, ...]:
        """The two-sided p at or below which each look is significant."""
        return tuple(float(2 * special.ndtr(-c)) for c in self.bounds)


@dataclass(frozen=True)
class Decision:
    """The result of a cell's looks so far."""

    state: State  # continue, or why no further run is needed
    look: int  # looks taken, 0 before the first
    n: tuple[int, int]  # values of x and y at the last look
    p: float | None  # Mann-Whitney's at the last look
    level: float | None  # the p that would have been significant there
    n_next: int  # seeds a method that the next look needs; those of the last look where the cell is decided
    # for the looks so far: at or below the design's alpha exactly where the state is significant; None before there is
    # a p
    p_adjusted: float | None = None

    @property
    def is_decided(self) -> bool:
        """Whether the two methods need no further run."""
        return self.state != "continue"


def decide(design: Design, x: Mapping[int, float | None], y: Mapping[int, float | None]) -> Decision:
    """Takes every look that the runs allow, in order, and stops where the design stops.

    A look is taken when the first n_k seeds of both methods have ended; its result uses those seeds alone, so it
    does not change when further runs arrive.

    Args:
        design: as declared.
        x: position of a seed (0, 1, ...) to the first method's value; None for a run that ended without one
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
        p = mann_whitney(left, right).p
        adjusted = decision.p_adjusted
        if p is not None:
            here = smallest_alpha(design.information[:look], p)
            adjusted = here if adjusted is None else min(adjusted, here)
        is_last = look == len(design.looks)
        state: State = "not significant" if is_last else "continue"
        if p is not None and p <= level:
            state = "significant"
        elif (
            not is_last and p is not None and _predictive(p, n / design.looks[-1], design.bounds[-1]) < design.futility
        ):
            state = "futile"
        n_next = n if state != "continue" else design.looks[look]
        decision = Decision(state, look, (len(left), len(right)), p, level, n_next, adjusted)
        if decision.is_decided:
            return decision
    return decision


def _predictive(p: float, t: float, last: float) -> float:
    """Returns the probability of |Z_K| >= c_K given z at t, over a flat prior of the drift (Choi et al. 1985)."""
    z = float(-special.ndtri(max(p, 1e-300) / 2))
    scale = math.sqrt(1 - t)
    return float(special.ndtr((z - last * math.sqrt(t)) / scale) + special.ndtr((-z - last * math.sqrt(t)) / scale))


def in_order(seeds: Sequence[int], values: Mapping[int, float], ended: Sequence[int] = ()) -> dict[int, float | None]:
    """Returns the values of runs by position, as `decide` takes them.

    Args:
        seeds: all wanted ones; looks take them by rising number.
        values: seed to value of the finished runs.
        ended: seeds whose runs ended for good without a value.
    """
    lost = set(ended)
    return {place: values.get(seed) for place, seed in enumerate(sorted(seeds)) if seed in values or seed in lost}
