"""Are two methods as good as equal? Two one-sided rank tests against a margin (Schuirmann 1987; Wellek 2010)."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from analysis.hypothesis import EXACT_BELOW, MIN_SEEDS, Finding, Values, checked, too_few

TEST = "two one-sided Mann-Whitney tests"


def equivalence(x: ArrayLike, y: ArrayLike, margin: float) -> Finding:
    """Tests the hypothesis that the shift of x against y is at least the margin, in either direction.

    As R's larger p of `wilcox.test(x, y, mu = -margin, alternative = "greater")` and
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
