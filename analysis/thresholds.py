"""Thresholds in words: the alpha of comparisons that need not share one, and a look's p beside its level."""

from collections.abc import Sequence

from analysis.comparison import Comparison
from analysis.sequential import Decision
from analysis.tables import level_text, p_text


def alphas(comparisons: Sequence[Comparison]) -> list[float]:
    """The thresholds that occur.

    Args:
        comparisons: any.

    Returns:
        Rising.
    """
    return sorted({item.alpha for item in comparisons})


def alpha_text(comparisons: Sequence[Comparison]) -> str:
    """The threshold of comparisons that need not share one.

    Args:
        comparisons: at least one.

    Returns:
        "0.05", or "each cell's alpha (0.01 or 0.05)".
    """
    found = [f"{alpha:g}" for alpha in alphas(comparisons)]
    return found[0] if len(found) == 1 else f"each cell's alpha ({' or '.join(found)})"


def look_p_text(decision: Decision) -> str:
    """The p of a look beside its level.

    Args:
        decision: of the design.

    Returns:
        As `p_text`; as `level_text` where "<0.0001" would not tell it from the level.
    """
    p, level = decision.p, decision.level
    return level_text(p) if p is not None and level is not None and p < 0.0001 and level < 0.001 else p_text(p)
