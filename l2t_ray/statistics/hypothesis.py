"""Tests of one method's runs against another's: is there a difference?

Notation: x and y are the final accuracies of two methods in one cell, one value a seed.

| test | question | pairs seeds |
| --- | --- | --- |
| Mann-Whitney (the thesis') | is P(X > Y) + P(X = Y)/2 other than 1/2, if the shapes are equal | no |
| Brunner-Munzel | the same, for unequal shapes and spreads | no |
| Wilcoxon signed-rank | are the differences of equal seeds centred on 0 | yes |

Every p is two-sided. Fewer than `MIN_SEEDS` seeds get none: 3 against 3 cannot come below 0.1 whatever their values.

Two one-sided rank tests show equivalence within a margin (Schuirmann 1987; Wellek 2010).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

MIN_SEEDS = 5
EXACT_BELOW = 50  # R's rule (wilcox.test): exact below 50 values without ties
N_PERMUTATIONS = 100_000
NEAR = 2.0  # a p within this factor of alpha is cross-checked
SEED = 20220101  # of every resampling here: the same inputs give the same bytes

Values = NDArray[np.float64]
TEST = "two one-sided Mann-Whitney tests"


@dataclass(frozen=True)
class Finding:
    """The result of a test."""

    test: str  # its name
    method: str  # how p was computed
    n: tuple[int, int]  # values of x and of y; the number of pairs twice for a paired test
    statistic: float | None = None  # U of x, W+ or Brunner and Munzel's t
    p: float | None = None  # two-sided; None where there is none
    note: str = ""  # why there is no p, or what to know of it
    permutation_p: float | None = None  # the cross-check of an asymptotic p near the threshold


def checked(values: ArrayLike, name: str = "values") -> Values:
    """Returns values as float64, of which every statistic here can be computed.

    Args:
        values: one-dimensional.
        name: for the message.

    Raises:
        ValueError: if one of them is not a finite number.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    if not np.isfinite(array).all():
        place = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"{name} must be finite, got {array[place]} at {place}; list such a run as missing")
    return array


def mann_whitney(x: ArrayLike, y: ArrayLike, *, alpha: float | None = 0.05) -> Finding:
    """Computes the Mann-Whitney U test, two-sided (Mann and Whitney 1947; thesis 5.4).

    Exact below 50 values each and without ties, else normal with tie and continuity correction, as R's `wilcox.test`;
    a permutation test cross-checks an asymptotic p within a factor of 2 of alpha.

    Args:
        x: one method's values.
        y: the other's.
        alpha: the threshold, for the cross-check alone; None leaves that out.

    Returns:
        The finding; its statistic is U of x.
    """
    x, y = checked(x, "x"), checked(y, "y")
    n = (len(x), len(y))
    if min(n) < MIN_SEEDS:
        return too_few("Mann-Whitney", n)
    both = np.concatenate([x, y])
    u = float(stats.rankdata(both)[: n[0]].sum() - n[0] * (n[0] + 1) / 2)
    if np.ptp(both) == 0:
        return Finding("Mann-Whitney", "none needed", n, u, 1.0, "all values are equal")
    if len(np.unique(both)) == len(both) and max(n) < EXACT_BELOW:
        p = float(stats.mannwhitneyu(x, y, alternative="two-sided", method="exact").pvalue)
        return Finding("Mann-Whitney", "exact", n, u, min(p, 1.0))
    p = float(stats.mannwhitneyu(x, y, use_continuity=True, alternative="two-sided", method="asymptotic").pvalue)
    method = "normal, tie and continuity correction"
    if alpha is None or not alpha / NEAR <= p <= alpha * NEAR:
        return Finding("Mann-Whitney", method, n, u, p)
    permuted = permutation_p(x, y)
    note = f"permutation gives p = {permuted:.4f}"
    if (permuted < alpha) != (p < alpha):
        note += f", on the other side of {alpha:g}"
    return Finding("Mann-Whitney", method, n, u, p, note, permuted)


def permutation_p(x: ArrayLike, y: ArrayLike, *, n_permutations: int = N_PERMUTATIONS) -> float:
    """Returns the rank sum's two-sided p by random relabelling, valid with ties (Phipson and Smyth 2010)."""
    x, y = checked(x, "x"), checked(y, "y")
    ranks = stats.rankdata(np.concatenate([x, y]))
    centre = len(x) * ranks.mean()
    observed = abs(ranks[: len(x)].sum() - centre)
    generator = np.random.default_rng(SEED)
    extreme = 0
    for start in range(0, n_permutations, 10_000):
        count = min(10_000, n_permutations - start)
        chosen = generator.random((count, len(ranks))).argsort(axis=1)[:, : len(x)]
        extreme += int((np.abs(ranks[chosen].sum(axis=1) - centre) >= observed - 1e-9).sum())
    return (extreme + 1) / (n_permutations + 1)


def brunner_munzel(x: ArrayLike, y: ArrayLike) -> Finding:
    """Computes Brunner and Munzel's test, two-sided, with the t approximation; t > 0 where x is the larger."""
    x, y = checked(x, "x"), checked(y, "y")
    n = (len(x), len(y))
    if min(n) < MIN_SEEDS:
        return too_few("Brunner-Munzel", n)
    if np.ptp(np.concatenate([x, y])) == 0:
        return Finding("Brunner-Munzel", "none needed", n, 0.0, 1.0, "all values are equal")
    if x.min() > y.max() or y.min() > x.max():
        p = float(stats.mannwhitneyu(x, y, alternative="two-sided", method="exact").pvalue)
        return Finding(
            "Brunner-Munzel", "exact permutation", n, None, p, "the samples do not overlap, so t has no variance"
        )
    result = stats.brunnermunzel(y, x, alternative="two-sided", distribution="t")  # SciPy's sign is y - x
    return Finding("Brunner-Munzel", "t approximation", n, float(result.statistic), float(result.pvalue))


def wilcoxon(x: Mapping[int, float], y: Mapping[int, float]) -> Finding:
    """Computes Wilcoxon's signed-rank test, two-sided, on the seeds that both methods have.

    Exact below 50 pairs without ties and zeros, else normal with continuity correction, zeros left out, as R's
    `wilcox.test(paired = TRUE)`.

    Args:
        x: seed to one method's value.
        y: seed to the other's.

    Returns:
        The finding; its statistic is the rank sum of the positive differences.
    """
    seeds = sorted(x.keys() & y.keys())
    differences = checked([x[seed] for seed in seeds], "x") - checked([y[seed] for seed in seeds], "y")
    n = (len(seeds), len(seeds))
    left = sorted(x.keys() ^ y.keys())
    note = f"unpaired seeds left out: {seed_list(left)}" if left else ""
    if len(seeds) < MIN_SEEDS:
        return too_few("Wilcoxon signed-rank", n, note)
    # differences of equal decimals may differ in their last bit, which would hide ties
    differences = np.round(differences, 9)
    if not differences.any():
        return Finding("Wilcoxon signed-rank", "none needed", n, 0.0, 1.0, "all differences are 0")
    sizes = np.abs(differences[differences != 0])
    ranks = stats.rankdata(np.abs(differences[differences != 0]))
    positive = float(ranks[differences[differences != 0] > 0].sum())
    exact = len(np.unique(sizes)) == len(differences) and len(differences) < EXACT_BELOW
    result = stats.wilcoxon(
        differences, zero_method="wilcox", correction=not exact, method="exact" if exact else "asymptotic"
    )
    method = "exact" if exact else "normal, tie and continuity correction"
    return Finding("Wilcoxon signed-rank", method, n, positive, min(float(result.pvalue), 1.0), note)


def too_few(test: str, n: tuple[int, int], note: str = "") -> Finding:
    """Returns a finding without a p, which says that there are too few seeds for one."""
    reason = f"{n[0]} against {n[1]} seeds; a p needs at least {MIN_SEEDS} each"
    return Finding(test, "none", n, note=f"{reason}; {note}" if note else reason)


def seed_list(seeds: Sequence[int]) -> str:
    """Returns sorted seeds for people: "0-3, 7"."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], seed]
        else:
            parts.append([seed])
    return ", ".join("-".join(map(str, part)) for part in parts)


def equivalence(x: ArrayLike, y: ArrayLike, margin: float) -> Finding:
    """Tests whether the shift of x against y is smaller than the margin, in both directions.

    Its p is the larger one of R's `wilcox.test(x, y, mu = -margin, alternative = "greater")` and
    `wilcox.test(x, y, mu = margin, alternative = "less")`.

    Args:
        x: one method's values.
        y: the other's.
        margin: the smallest difference that matters, in the values' unit; > 0.

    Returns:
        The finding: a small p says that the shift lies within the margin.

    Raises:
        ValueError: if the margin is not positive.
    """
    if not margin > 0:
        raise ValueError(f"margin must be > 0, got {margin}")
    x, y = checked(x, "x"), checked(y, "y")
    n = (len(x), len(y))
    if min(n) < MIN_SEEDS:
        return too_few(TEST, n)
    above, method_above = _one_sided(np.round(x + margin, 9), np.round(y, 9), "greater")
    below, method_below = _one_sided(np.round(x - margin, 9), np.round(y, 9), "less")
    p, method = (above, method_above) if above >= below else (below, method_below)
    return Finding(TEST, method, n, None, p, f"margin {margin:g}")


def _one_sided(x: Values, y: Values, alternative: str) -> tuple[float, str]:
    both = np.concatenate([x, y])
    if np.ptp(both) == 0:
        return 1.0, "none needed"
    exact = len(np.unique(both)) == len(both) and max(len(x), len(y)) < EXACT_BELOW
    method = "exact" if exact else "asymptotic"
    p = float(stats.mannwhitneyu(x, y, use_continuity=True, alternative=alternative, method=method).pvalue)
    return min(p, 1.0), "exact" if exact else "normal, tie and continuity correction"
