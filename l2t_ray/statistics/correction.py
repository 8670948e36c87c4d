"""Several tests at once: corrects p-values over a declared family.

A test of the family that has no p yet (too few seeds so far) counts as p = 1, so that the correction of the others
does not become stricter when its runs arrive.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

PValues = Sequence[float | None]


def holm(p: PValues) -> list[float | None]:
    """Returns p by Holm's step-down (1979), which keeps the chance of any false claim below alpha; None stays None."""

    def adjust(values: NDArray[np.float64]) -> NDArray[np.float64]:
        order = np.argsort(values)
        steps = (len(values) - np.arange(len(values))) * values[order]
        adjusted = np.empty_like(values)
        adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
        return adjusted

    return _corrected(p, adjust)


def benjamini_hochberg(p: PValues) -> list[float | None]:
    """Returns p by Benjamini and Hochberg (1995), for the expected share of false claims; None stays None."""
    return _corrected(p, lambda values: stats.false_discovery_control(values, method="bh"))


def _corrected(p: PValues, adjust: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> list[float | None]:
    values = np.array([1.0 if value is None else value for value in p], dtype=np.float64)
    if not len(values):
        return []
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"a p must be between 0 and 1, got {values.tolist()}")
    adjusted = adjust(values)
    return [None if raw is None else float(value) for raw, value in zip(p, adjusted, strict=True)]
