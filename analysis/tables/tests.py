"""Tables with a row for each comparison of two methods: tests, effect sizes, equivalence and power."""

from collections.abc import Mapping, Sequence

from analysis.results.comparison import Comparison, family_size
from analysis.tables.table import (
    MINUS,
    NOTHING,
    Table,
    arm_name,
    condition_text,
    estimate_text,
    level_text,
    p_text,
    points,
    signed,
)
from l2t_ray.statistics.effect import MEANINGFUL, WELCH, Estimate
from l2t_ray.statistics.hypothesis import Finding
from l2t_ray.statistics.sequential import Decision, Design

PAIR = ("data set", "images a class")


def hypothesis_table(comparisons: Sequence[Comparison], family: str) -> Table:
    """All tests of one pair of methods, a row for each condition; `family` says what p is corrected over."""
    rows = [
        (
            *condition_text(item.condition), f"{item.a.mean.n}, {item.b.mean.n}", p_text(item.test.p), item.test.method,
            p_text(item.p_holm), p_text(item.p_bh), p_text(item.wilcoxon.p), str(item.wilcoxon.n[0]),
            p_text(item.brunner_munzel.p),
        )
        for item in comparisons
    ]  # fmt: skip
    header = (*PAIR, "n", "Mann-Whitney p", "method", "Holm p", "Benjamini-Hochberg p", "Wilcoxon p", "pairs",
              "Brunner-Munzel p")  # fmt: skip
    notes = [f"All p are two-sided; Holm and Benjamini-Hochberg correct Mann-Whitney's over {family}."]
    if any(item.decision for item in comparisons):
        notes.append(
            "Mann-Whitney, Wilcoxon and Brunner-Munzel use every finished run, as if there had been no looks; the "
            "declared design decides by its own table, and Holm and Benjamini-Hochberg correct its adjusted p."
        )
    notes.extend(_notes(comparisons))
    return Table("tests", f"Tests of {pair_name(comparisons)}", header, tuple(rows), tuple(notes), n_text=1)


def effect_table(comparisons: Sequence[Comparison]) -> Table:
    """Effect sizes of one pair of methods, a row for each condition."""
    rows = []
    for item in comparisons:
        texts = [NOTHING] * 4
        if item.has_values:
            texts = [
                estimate_text(item.mean_difference, sign=True), estimate_text(item.shift, sign=True),
                estimate_text(item.a12), estimate_text(item.rank_biserial),
            ]  # fmt: skip
        paired = item.paired
        texts += [NOTHING, NOTHING] if paired is None else [estimate_text(paired), _reading(paired)]
        rows.append((*condition_text(item.condition), *texts))
    header = (*PAIR, "difference of means", "Hodges-Lehmann shift", "A12", "rank-biserial", "equal seeds",
              f"against {MEANINGFUL:g}")  # fmt: skip
    notes = (
        f"In points of the metric, with 95 % intervals: {WELCH}; Mann-Whitney inverted; Newcombe's method 5 for A12, "
        "the chance that a run of the first method is above one of the second.",
        "Equal seeds: the chance that the first method is above the second with the same seed, ties counting half, "
        f"with Clopper and Pearson's interval. Meaningful: that interval leaves out 0.5 and the chance is above "
        f"{MEANINGFUL:g} (or below {1 - MEANINGFUL:g}); found: the interval leaves out 0.5.",
    )
    return Table("effects", f"Sizes of {pair_name(comparisons)}", header, tuple(rows), notes, n_text=1)


def _reading(paired: Estimate) -> str:
    assert paired.low is not None
    assert paired.high is not None
    if paired.low <= 0.5 <= paired.high:
        return "not found"
    return "meaningful" if max(paired.value, 1 - paired.value) > MEANINGFUL else "found"


def _needed(item: Comparison, n_tests: int) -> str:
    if item.sds is None:
        return NOTHING
    needed = item.needed_in(n_tests)
    return ">1000" if needed is None else str(needed)


def _limit(item: Comparison) -> str:
    return f"{'' if item.is_shown_at_limit else 'over '}{item.shown_within:.2f}"


def power_table(comparisons: Sequence[Comparison]) -> Table:
    """Equivalence, and the seeds that a difference of the margin needs, a row for each condition of one pair."""
    rows = []
    for item in comparisons:
        p = item.equivalence.p if item.has_values else None
        reading = "no p" if p is None else "equivalent" if p < item.alpha else "not shown"
        sds = NOTHING if item.sds is None else f"{item.sds[0]:.2f}, {item.sds[1]:.2f}"
        rows.append((
            *condition_text(item.condition),
            f"{item.a.mean.n}, {item.b.mean.n}",
            p_text(p),
            reading,
            NOTHING if p is None or item.shown_within is None else _limit(item),
            sds,
            _needed(item, 1),
            _needed(item, family_size(item, comparisons)),
            *_alpha(item, comparisons),
        ))
    margin, alpha = comparisons[0].margin, alpha_text(comparisons)
    header = (
        *PAIR,
        "n",
        "equivalence p",
        f"within {points(margin)}",
        "shown within",
        "spread of one run",
        "seeds needed",
        "after correction",
        *_alpha_title(comparisons),
    )
    sizes = sorted({family_size(item, comparisons) for item in comparisons})
    family = " or ".join(map(str, sizes))
    notes = (
        f"Equivalence: the larger p of two one-sided rank tests against {points(margin)}; below {alpha} the shift "
        "lies within. Shown within: the smallest margin, in points, with which it would.",
        f"Seeds needed: a method, to find a difference of {points(margin)} with 80 % power at {alpha}, by simulation "
        f"from the observed spread (Noether's formula above 200). After correction: at {alpha} / {family}, Holm's "
        f"first step for {family} tests, which is enough whatever the other tests find.",
    )
    return Table(
        "power", f"Equivalence and needed seeds, {pair_name(comparisons)}", header, tuple(rows), notes, n_text=1
    )


def all_pairs_table(comparisons: Sequence[Comparison]) -> Table:
    """Every method against every other, a row for each pair and condition."""
    rows = [
        (
            item.condition.data, item.condition.samples_per_class,
            f"{arm_name(item.a.arm)} {MINUS} {arm_name(item.b.arm)}",
            f"{item.a.mean.n}, {item.b.mean.n}", signed(item.difference), p_text(item.test.p), p_text(item.p_holm),
            estimate_text(item.a12) if item.has_values else NOTHING,
        )
        for item in comparisons
    ]  # fmt: skip
    header = (*PAIR, "methods", "n", "difference", "Mann-Whitney p", "Holm p", "A12")
    notes = [f"Holm's correction over all {len(comparisons)} tests of this table."]
    if any(item.decision for item in comparisons):
        notes.append(
            "For the pair that a design compares, Holm corrects the p adjusted for its looks. For other pairs that "
            "share a cell with it, n depends on the design's decisions, but p is computed as if n had been fixed."
        )
    return Table("all_pairs", "All methods against all", header, tuple(rows), tuple(notes), n_text=3)


def design_table(comparisons: Sequence[Comparison], designs: Mapping[str, Design]) -> Table | None:
    """What the declared group-sequential designs decided, a row for each condition; None without a design."""
    decided = [(item, item.decision) for item in comparisons if item.decision is not None]
    shown = [item for item, _ in decided]
    if not decided:
        return None
    rows = [
        (
            *condition_text(item.condition), decision.state, str(decision.look or NOTHING),
            f"{decision.n[0]}, {decision.n[1]}" if decision.look else NOTHING, look_p_text(decision),
            level_text(decision.level), p_text(decision.p_adjusted), p_text(item.p_holm), str(decision.n_next),
            *_alpha(item, shown),
        )
        for item, decision in decided
    ]  # fmt: skip
    notes = []
    for sweep in sorted({item.declared_by for item in shown}):
        design = designs[sweep]
        looks = ", ".join(
            f"{n} seeds: p \N{LESS-THAN OR EQUAL TO} {level_text(level)}"
            for n, level in zip(design.looks, design.levels, strict=True)
        )
        notes.append(
            f"{sweep}: looks after {looks}; O'Brien-Fleming-like spending of {design.alpha:g} (Lan and DeMets); "
            f"futile where the predictive probability of a significant end is below {design.futility:g}."
        )
    notes.append(
        "Adjusted p: the smallest error rate over all looks with which the design would have found the difference so "
        "far; it is valid whenever the looks stop, and Holm corrects it. The level is that of one comparison."
    )
    notes.append(
        "Differences, their intervals and equivalence are not adjusted: after an early end differences tend to be too "
        "large, and equivalence is tested as if n had been fixed."
    )
    header = (*PAIR, "state", "look", "n", "p", "level", "adjusted p", "Holm p", "seeds needed", *_alpha_title(shown))
    return Table("design", "The group-sequential design", header, tuple(rows), tuple(notes), n_text=1)


def pair_name(comparisons: Sequence[Comparison]) -> str:
    """The two methods, `L2T-www against L2T-ww`; their variants too where both are the same method."""
    first = comparisons[0]
    names = [arm_name(cell.method) for cell in (first.a, first.b)]
    if names[0] == names[1]:
        names = [arm_name(cell.arm) for cell in (first.a, first.b)]
    return f"{names[0]} against {names[1]}"


def _alpha(item: Comparison, comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    return (f"{item.alpha:g}",) if len(alphas(comparisons)) > 1 else ()


def _alpha_title(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    return ("alpha",) if len(alphas(comparisons)) > 1 else ()


def _notes(comparisons: Sequence[Comparison]) -> list[str]:
    notes: list[str] = []
    for item in comparisons:
        findings: list[Finding] = [item.test]
        if item.test.p is not None:  # else the others have no p for the same reason
            findings += [item.wilcoxon, item.brunner_munzel]
        notes.extend(f"{item.condition}, {finding.test}: {finding.note}." for finding in findings if finding.note)
    return notes


def alphas(comparisons: Sequence[Comparison]) -> list[float]:
    """The different thresholds of the comparisons, rising."""
    return sorted({item.alpha for item in comparisons})


def alpha_text(comparisons: Sequence[Comparison]) -> str:
    """The threshold, `0.05`; where comparisons have different ones, `each cell's alpha (0.01 or 0.05)`."""
    texts = [f"{alpha:g}" for alpha in alphas(comparisons)]
    return texts[0] if len(texts) == 1 else f"each cell's alpha ({' or '.join(texts)})"


def look_p_text(decision: Decision) -> str:
    """A look's p as `p_text` writes it; as `level_text` does where `<0.0001` could not be told from the level."""
    p, level = decision.p, decision.level
    return level_text(p) if p is not None and level is not None and p < 0.0001 and level < 0.001 else p_text(p)
