"""When two numbers are the same: one rule for every statistic here.

Numbers of equal decimals may differ in their last bits, by how they were computed: 0.1 + 0.2 is not 0.3. So values are
compared by 12 significant digits, and differences of two values by 12 significant digits of the larger one.
"""

import math

import numpy as np
from numpy.typing import NDArray

DIGITS = 12  # of 15 to 17 that a float64 has: means of many values keep them

Values = NDArray[np.float64]


def rounded(values: Values, sizes: Values | None = None) -> Values:
    """Returns finite values with 12 significant digits, of the values' own or of these sizes."""
    larger = np.abs(values) if sizes is None else np.broadcast_to(sizes, values.shape)
    found = np.array([*map(_rounded, values.ravel().tolist(), larger.ravel().tolist())], dtype=np.float64)
    return found.reshape(values.shape)


def differences(x: Values, y: Values) -> Values:
    """Returns x - y, where numpy broadcasts them: 0 for values that are the same, ties where differences are."""
    x, y = rounded(x), rounded(y)
    with np.errstate(over="ignore"):  # of numbers near the largest one the difference is infinite
        return rounded(x - y, np.maximum(np.abs(x), np.abs(y)))


def is_constant(*samples: Values) -> bool:
    """Whether all values of each sample are the same."""
    return all(sample.min() == sample.max() for sample in map(rounded, samples))


def _rounded(value: float, size: float) -> float:
    if not size or not math.isfinite(size):
        return value if size else 0.0
    # Python's round is exact for any number of decimals; numpy's multiplies by a power of ten, which may overflow
    return round(value, DIGITS - 1 - math.floor(math.log10(size))) + 0.0
