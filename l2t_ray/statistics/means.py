"""The mean of a cell's runs with its interval; the difference of two means from their summaries."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from l2t_ray.statistics.hypothesis import checked
from l2t_ray.statistics.ties import Values, is_constant


@dataclass(frozen=True)
class Mean:
    """A mean with its t interval."""

    n: int  # values
    mean: float | None = None  # None without values
    sd: float | None = None  # with n - 1, 0 where all values are the same; None below two values
    half_width: float | None = None  # of the confidence interval; None below two values


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Mean:
    """Returns the mean of one value a seed and the half-width of its t interval, as far as there are values."""
    array = checked(values)
    n = len(array)
    if n == 0:
        return Mean(0)
    if n == 1:
        return Mean(1, float(array[0]))
    sd = deviation(array)
    return Mean(n, average(array), sd, half_width(sd, n, confidence))


def average(values: Values) -> float:
    """Returns the mean of one or more values."""
    exponent = _exponent(values)
    return float(np.ldexp(np.ldexp(values, -exponent).mean(), exponent))


def deviation(values: Values) -> float:
    """Returns the standard deviation with n - 1 of two or more values, exactly 0 where all are the same."""
    if is_constant(values):
        return 0.0
    exponent = _exponent(values)
    return float(np.ldexp(np.ldexp(values, -exponent).std(ddof=1), exponent))


def _exponent(values: Values) -> int:
    # a power of two scales exactly, so that no sum or square overflows or vanishes
    return int(np.frexp(np.abs(values).max())[1])


def half_width(sd: float, n: int, confidence: float = 0.95) -> float:
    """Returns the half-width of the t interval of a mean of n values: t_(n-1) sd / sqrt(n)."""
    return float(stats.t.ppf((1 + confidence) / 2, n - 1) * sd / n**0.5)


def spread(half: float, n: int, confidence: float = 0.95) -> float:
    """Returns the standard deviation behind a published half-width of a mean of n values: half sqrt(n) / t_(n-1)."""
    return float(half * n**0.5 / stats.t.ppf((1 + confidence) / 2, n - 1))


def welch(mean_x: float, sd_x: float, n_x: int, mean_y: float, sd_y: float, n_y: int) -> tuple[float, float, float]:
    """Returns Welch's two-sided t test from summaries: p, standard error of the difference, degrees of freedom."""
    u, v = sd_x / n_x**0.5, sd_y / n_y**0.5
    error = math.hypot(u, v)
    if error == 0:
        return float(mean_x == mean_y), 0.0, float(n_x + n_y - 2)
    degrees = 1 / ((u / error) ** 4 / (n_x - 1) + (v / error) ** 4 / (n_y - 1))
    return float(2 * stats.t.sf(abs(mean_x - mean_y) / error, degrees)), error, degrees
