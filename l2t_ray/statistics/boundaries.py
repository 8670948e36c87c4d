"""Boundaries of group-sequential tests, by numerical integration.

| symbol | meaning |
| --- | --- |
| t_k = n_k / n_K | information at look k |
| alpha(t) = 4 (1 - Phi(z_(alpha/4) / sqrt t)) | two-sided error spent up to t (Lan and DeMets 1983) |
| c_k | boundary of the standard normal z at look k |
"""

import math
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

N_NODES = 80  # of the Gauss-Legendre rule between two boundaries; half of them reach 1e-9
MOST_BOUND = 12.0  # largest z; its p of 4e-33 is below every p of Mann-Whitney's
LEAST_ALPHA, MOST_ALPHA = 1e-9, 0.999  # range of the search for an adjusted p


@lru_cache(maxsize=256)
def boundaries(information: tuple[float, ...], alpha: float = 0.05) -> tuple[float, ...]:
    """Returns the boundaries c_k of |z|, by recursive numerical integration (Armitage, McPherson and Rowe 1969).

    Args:
        information: t_k, rising; up to 1 for all looks.
        alpha: two-sided error over all looks.
    """
    spent = [spending(t, alpha) for t in information]
    bounds: list[float] = []
    nodes = density = np.empty(0)
    before = 0.0
    for k, t in enumerate(information):
        target = spent[k] - (spent[k - 1] if k else 0.0)
        if k == 0:
            bound = min(float(-special.ndtri(target / 2)), MOST_BOUND)
        else:
            step = math.sqrt(t - before)
            given = (t, step, nodes, density, target)
            bound = MOST_BOUND
            if _crossing(bound, *given) < 0:
                bound = float(optimize.brentq(_crossing, 0.0, MOST_BOUND, args=given, xtol=1e-12))
        bounds.append(bound)
        if k + 1 == len(information):
            break
        # the density of the score b = z sqrt(t) of paths that have not crossed, with the rule's weights
        points, weights = (part * (bound * math.sqrt(t)) for part in _unit_rule())
        if k == 0:
            values = np.exp(-(points**2) / (2 * t)) / math.sqrt(2 * math.pi * t)
        else:
            gaps = (points[:, None] - nodes[None, :]) / step
            values = (np.exp(-(gaps**2) / 2) @ density) / (step * math.sqrt(2 * math.pi))
        nodes, density, before = points, values * weights, t
    return tuple(bounds)


def smallest_alpha(information: tuple[float, ...], p: float) -> float:
    """Returns the design's error over all looks at which a p would lie on the boundary: the p adjusted for the looks.

    The smallest one of the looks taken so far is a valid p whenever the looks stop (the sequential p-value of Liu and
    Anderson 2008), which may be corrected over a family (Maurer and Bretz 2013).

    Args:
        information: t_1 to t_k.
        p: two-sided, at look k.

    Returns:
        `LEAST_ALPHA` to 1; 1 where even an error of `MOST_ALPHA` is too small.
    """

    def excess(log_alpha: float) -> float:
        return level(information, math.exp(log_alpha)) - p

    if excess(math.log(MOST_ALPHA)) < 0:
        return 1.0
    if excess(math.log(LEAST_ALPHA)) >= 0:
        return LEAST_ALPHA
    return math.exp(float(optimize.brentq(excess, math.log(LEAST_ALPHA), math.log(MOST_ALPHA), xtol=1e-10)))


def level(information: tuple[float, ...], alpha: float) -> float:
    """Returns the two-sided p at or below which look k of t_1 .. t_k is significant: 2 (1 - Phi(c_k))."""
    return float(2 * special.ndtr(-boundaries(information, alpha)[-1]))


def spending(t: float, alpha: float = 0.05) -> float:
    """Returns the two-sided error spent up to information t, O'Brien-Fleming-like, alpha/2 for each side."""
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
