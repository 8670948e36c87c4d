"""Exact permutation distributions of rank statistics, ties included.

The shift algorithm (Streitberg and Röhmel 1986) counts for every sum s how many of the C(N, m) choices of m ranks have
that sum: each rank shifts the counts of the ranks before it. Midranks of ties are half-integers, so ranks are doubled.
Signed ranks are counted likewise, over the 2^n choices of signs.
"""

import itertools
import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MOST_RELABELLINGS = 100_000  # all are counted up to so many; beyond, `N_DRAWN` random ones
N_DRAWN = 20_000
LARGE = 1e300  # Brunner and Munzel's t of samples that do not overlap


def rank_sums(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[int, NDArray[np.float64]]:
    """The doubled rank sum of x in the pooled sample, and its distribution over all relabellings.

    Args:
        x: m values.
        y: n values.

    Returns:
        The observed sum, and P(doubled sum = s) for s = 0, 1, ...
    """
    ranks = np.rint(2 * stats.rankdata(np.concatenate([x, y]))).astype(np.int64)
    return int(ranks[: len(x)].sum()), _shares(tuple(sorted(ranks.tolist())), len(x))


@lru_cache(maxsize=512)  # without ties it depends on the numbers of values alone
def _shares(ranks: tuple[int, ...], m: int) -> NDArray[np.float64]:
    """The distribution of the sum of m of the doubled ranks."""
    ways = np.zeros((m + 1, sum(ranks) + 1))
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, : ways.shape[1] - rank]
    shares: NDArray[np.float64] = ways[m] / ways[m].sum()
    shares.flags.writeable = False
    return shares


def rank_sum_p(x: NDArray[np.float64], y: NDArray[np.float64], alternative: str = "two-sided") -> float:
    """The exact p of the rank sum of x: of sums as far from their mean, or ("greater", "less") as large or small."""
    observed, shares = rank_sums(x, y)
    sums = np.arange(len(shares))
    centre = len(x) * (len(x) + len(y) + 1)
    extreme = {
        "two-sided": np.abs(sums - centre) >= abs(observed - centre),
        "greater": sums >= observed,
        "less": sums <= observed,
    }[alternative]
    return min(1.0, float(shares[extreme].sum()))


def signed_rank_p(differences: NDArray[np.float64]) -> float:
    """The exact two-sided p of the ranks of the positive differences, none of them 0: over all changes of signs."""
    ranks = np.rint(2 * stats.rankdata(np.abs(differences))).astype(np.int64)
    shares = _signed_shares(tuple(sorted(ranks.tolist())))
    sums, observed, twice_centre = np.arange(len(shares)), int(ranks[differences > 0].sum()), int(ranks.sum())
    extreme = np.abs(2 * sums - twice_centre) >= abs(2 * observed - twice_centre)
    return min(1.0, float(shares[extreme].sum()))


@lru_cache(maxsize=512)
def _signed_shares(ranks: tuple[int, ...]) -> NDArray[np.float64]:
    """The distribution of the sum of those doubled ranks whose differences are positive, each with a chance of 1/2."""
    ways = np.zeros(sum(ranks) + 1)
    ways[0] = 1
    for rank in ranks:
        ways[rank:] += ways[: len(ways) - rank]
    shares: NDArray[np.float64] = ways / ways.sum()
    shares.flags.writeable = False
    return shares


def brunner_munzel_p(x: NDArray[np.float64], y: NDArray[np.float64], seed: int) -> tuple[float, float, str]:
    """The permutation test of Brunner and Munzel's statistic (Neubert and Brunner 2007), two-sided.

    Args:
        x: one method's values.
        y: the other's.
        seed: of the random relabellings, if there are too many to count them all.

    Returns:
        t, positive where x is the larger and `LARGE` where the samples do not overlap; p; and how p was computed.
    """
    both, m = np.concatenate([x, y]), len(x)
    n_all = math.comb(len(both), m)
    labels = np.zeros((n_all if n_all <= MOST_RELABELLINGS else N_DRAWN, len(both)), dtype=bool)
    if n_all <= MOST_RELABELLINGS:
        for row, chosen in zip(labels, itertools.combinations(range(len(both)), m), strict=True):
            row[list(chosen)] = True
        method = "exact permutation"
    else:
        order = np.random.default_rng(seed).random(labels.shape).argsort(axis=1)
        np.put_along_axis(labels, order[:, :m], values=True, axis=1)
        method = f"{N_DRAWN:,} permutations"
    first = np.zeros((1, len(both)), dtype=bool)
    first[0, :m] = True
    (t,) = _statistics(both, first)
    extreme = int((np.abs(_statistics(both, labels)) >= abs(t) - 1e-9).sum())
    p = extreme / len(labels) if n_all <= MOST_RELABELLINGS else (extreme + 1) / (len(labels) + 1)
    return float(t), p, method


def _statistics(both: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Brunner and Munzel's t of every row of labels, which mark the members of x."""
    m = int(labels[0].sum())
    n = len(both) - m
    ranks = stats.rankdata(both)
    beats = (both[:, None] > both[None, :]) + 0.5 * (both[:, None] == both[None, :])  # i against j; itself counts half
    means, variances = [], []
    for member, size in ((labels, m), (~labels, n)):
        within = member @ beats.T + 0.5  # each value's rank among the members
        mean = (member * ranks).sum(axis=1) / size
        centred = member * (ranks - within - mean[:, None] + (size + 1) / 2)
        means.append(mean)
        variances.append((centred**2).sum(axis=1) / (size - 1))
    difference = means[0] - means[1]
    scale = (m + n) * np.sqrt(m * variances[0] + n * variances[1])
    has_spread = scale > 1e-12
    t = np.divide(m * n * difference, scale, out=np.zeros_like(scale), where=has_spread)
    found: NDArray[np.float64] = np.where(has_spread, t, np.sign(np.round(difference, 9)) * LARGE)
    return found
