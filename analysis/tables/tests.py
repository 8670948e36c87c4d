"""Tables with a row for each comparison of two methods: tests, effect sizes, equivalence and power."""

from collections.abc import Mapping, Sequence

from analysis.results.comparison import MOST_UNLIKE, Comparison, equivalent_in_family
from analysis.tables.names import arm_name, family_text, methods_text, one_pair, pair_place, place_cells, place_titles
from analysis.tables.table import (
    NOTHING,
    Table,
    condition_text,
    estimate_text,
    level_text,
    p_text,
    points,
    signed,
    unlike_notes,
)
from l2t_ray.statistics.effect import MEANINGFUL, WELCH, Estimate
from l2t_ray.statistics.hypothesis import Finding
from l2t_ray.statistics.sequential import Decision, Design


def hypothesis_table(comparisons: Sequence[Comparison]) -> Table:
    """All tests, a row for each comparison."""
    rows = [
        (
            *_place(item, comparisons), f"{item.a.mean.n}, {item.b.mean.n}", p_text(item.test.p), item.test.method,
            p_text(item.p_holm), p_text(item.p_bh), p_text(item.wilcoxon.p), str(item.wilcoxon.n[0]),
            p_text(item.brunner_munzel.p),
        )
        for item in comparisons
    ]  # fmt: skip
    header = (*_titles(comparisons), "n", "Mann-Whitney p", "method", "Holm p", "Benjamini-Hochberg p", "Wilcoxon p",
              "pairs", "Brunner-Munzel p")  # fmt: skip
    notes = [
        "All p of this table are two-sided. Holm and Benjamini-Hochberg correct the deciding p over "
        f"{family_text(comparisons)}. Wilcoxon's test is exact below 50 pairs, else normal.",
        *unlike_notes(comparisons),
    ]
    if any(item.decision for item in comparisons):
        notes.append(
            "Mann-Whitney, Wilcoxon and Brunner-Munzel use every finished run, as if there had been no looks; the "
            "declared design decides by its own table, and Holm and Benjamini-Hochberg correct its adjusted p."
        )
    notes.extend(_notes(comparisons))
    return Table(
        "tests", f"Tests of {pair_name(comparisons)}", header, tuple(rows), tuple(notes), n_text=n_text(comparisons)
    )


def effect_table(comparisons: Sequence[Comparison]) -> Table:
    """Effect sizes, a row for each comparison."""
    rows = []
    for item in comparisons:
        texts = [NOTHING] * 4
        if item.has_values:
            texts = [
                estimate_text(item.mean_difference, sign=True, digits=item.digits),
                estimate_text(item.shift, sign=True, digits=item.digits),
                estimate_text(item.a12), estimate_text(item.rank_biserial),
            ]  # fmt: skip
        paired = item.paired_superiority
        texts += [NOTHING, NOTHING] if paired is None else [estimate_text(paired), _reading(paired)]
        rows.append((*_place(item, comparisons), *texts))
    header = (*_titles(comparisons), "difference of means", "Hodges-Lehmann shift", "A12", "rank-biserial",
              "equal seeds", f"beyond {MEANINGFUL:g}")  # fmt: skip
    notes = (
        f"In points of the metric, with 95 % intervals: {WELCH}; Mann-Whitney inverted; Newcombe's method 5 for A12, "
        "the chance that a run of the first method is above one of the second, ties counting half.",
        "Equal seeds: the chance that the first method is above the second with the same seed, ties counting half, "
        "with Clopper and Pearson's interval. Bouthillier et al. (2021) call a method meaningfully better from "
        f"{MEANINGFUL:g} on; the interval shows that, leaves it possible, or excludes it (for the second method: below "
        f"{1 - MEANINGFUL:g}).",
        "All intervals are single ones, not corrected for the number of comparisons.",
        *unlike_notes(comparisons),
    )
    return Table(
        "effects", f"Sizes of {pair_name(comparisons)}", header, tuple(rows), notes, n_text=n_text(comparisons)
    )


def _reading(paired: Estimate) -> str:
    assert paired.low is not None
    assert paired.high is not None
    if max(paired.low, 1 - paired.high) > MEANINGFUL:
        return "shown"
    return "possible" if max(paired.high, 1 - paired.low) > MEANINGFUL else "excluded"


def _needed(item: Comparison, n_tests: int) -> str:
    if item.sds is None:
        return NOTHING
    needed = item.needed_in(n_tests)
    return ">1000" if needed is None else str(needed)


def _limit(item: Comparison) -> str:
    return f"{'' if item.is_shown_at_limit else '> '}{item.shown_within:.{item.digits}f}"


def power_table(comparisons: Sequence[Comparison]) -> Table:
    """Equivalence, and the seeds that a difference of the margin needs, a row for each comparison."""
    rows = []
    equivalent = equivalent_in_family(comparisons)
    for item, is_equivalent in zip(comparisons, equivalent, strict=True):
        p = item.equivalence.p if item.has_values else None
        alone = "alone" if p is not None and p < item.alpha else "not shown"
        reading = "no p" if p is None else "equivalent" if is_equivalent else alone
        sds = NOTHING if item.sds is None else ", ".join(f"{sd:.{item.digits}f}" for sd in item.sds)
        rows.append((
            *_place(item, comparisons),
            f"{item.a.mean.n}, {item.b.mean.n}",
            p_text(p),
            reading,
            NOTHING if p is None or item.shown_within is None else _limit(item),
            sds,
            _needed(item, 1),
            _needed(item, item.n_family),
            *_alpha(item, comparisons),
        ))
    margin, alpha = points(comparisons[0].margin, comparisons[0].unit), alpha_text(comparisons)
    header = (
        *_titles(comparisons),
        "n",
        "equivalence p",
        f"within {margin}",
        "shown within",
        "standard deviations",
        "seeds needed",
        "after correction",
        *_alpha_title(comparisons),
    )
    notes = (
        f"Equivalence: the larger p of two one-sided rank tests against {margin}; equivalent: below {alpha} "
        f"after Holm's correction over {family_text(comparisons)}; alone: below it only without the correction. "
        f"Shown within: the smallest margin, in {comparisons[0].unit}{'s' * (comparisons[0].unit == 'point')}, with "
        "which one test alone would show it.",
        f"Seeds needed: a method, to find a difference of {margin} with 80 % power at {alpha}, for normal "
        "values with the observed standard deviations over seeds (by simulation; above 200 by Noether's formula). "
        "With 8 seeds a standard deviation is known to a factor of 2, so this number to one of 4. After correction: "
        f"at {alpha} / {len(comparisons)}, Holm's first step, which is enough whatever the other tests find.",
    )
    return Table(
        "power",
        f"Equivalence and needed seeds, {pair_name(comparisons)}",
        header,
        tuple(rows),
        notes,
        n_text=n_text(comparisons),
    )


def all_pairs_table(comparisons: Sequence[Comparison]) -> Table:
    """Every method against every other, a row for each pair and condition."""
    rows = [
        (
            *place_cells(item.condition), methods_text(item),
            f"{item.a.mean.n}, {item.b.mean.n}", signed(item.difference, item.digits),
            p_text(item.deciding.p), p_text(item.p_holm),
            estimate_text(item.a12) if item.has_values else NOTHING,
        )
        for item in comparisons
    ]  # fmt: skip
    titles = place_titles(comparisons[0].condition)
    header = (*titles, "methods", "n", "difference", "p", "Holm p", "A12")
    notes = [
        "Difference: of the means. p is Mann-Whitney's, or Brunner and Munzel's where spreads or numbers of seeds "
        f"differ by more than {MOST_UNLIKE:g} to 1. Holm's correction over all {len(comparisons)} tests of this table."
    ]
    if any(item.decision for item in comparisons):
        notes.append(
            "For the pair that a design compares, Holm corrects the p adjusted for its looks. For other pairs that "
            "share a cell with it, n depends on the design's decisions, but p is computed as if n had been fixed."
        )
    return Table("all_pairs", "All methods against all", header, tuple(rows), tuple(notes), n_text=len(titles) + 1)


def design_table(comparisons: Sequence[Comparison], designs: Mapping[str, Design]) -> Table | None:
    """What the declared group-sequential designs decided, a row for each condition; None without a design."""
    decided = [(item, item.decision) for item in comparisons if item.decision is not None]
    shown = [item for item, _ in decided]
    if not decided:
        return None
    rows = [
        (
            *_place(item, shown), decision.state, str(decision.look or NOTHING),
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
        "Seeds: a method, at which the cell stopped, or that the next look needs. Adjusted p: the smallest error "
        "rate over all looks with which the design would have found the difference so far; it is valid whenever the "
        "looks stop, and Holm corrects it. The level is that of one comparison."
    )
    notes.append(
        "Differences, their intervals and equivalence are not adjusted: after an early end differences tend to be too "
        "large, and equivalence is tested as if n had been fixed."
    )
    header = (
        *_titles(shown),
        "state",
        "look",
        "n",
        "p",
        "level",
        "adjusted p",
        "Holm p",
        "seeds",
        *_alpha_title(shown),
    )
    return Table("design", "The group-sequential design", header, tuple(rows), tuple(notes), n_text=n_text(shown))


def pair_name(comparisons: Sequence[Comparison]) -> str:
    """What is compared: `L2T-www against L2T-ww`, with variants where both are one method; `3 methods against UFM`."""
    first = comparisons[0]
    if not one_pair(comparisons):
        return f"{len({item.a.arm for item in comparisons})} methods against {arm_name(first.b.method)}"
    names = [arm_name(cell.method) for cell in (first.a, first.b)]
    if names[0] == names[1]:
        names = [arm_name(cell.arm) for cell in (first.a, first.b)]
    return f"{names[0]} against {names[1]}"


def n_text(comparisons: Sequence[Comparison]) -> int:
    """The columns of text at the left of a table of comparisons."""
    return 1 if one_pair(comparisons) else len(_titles(comparisons))


def _titles(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    titles = place_titles(comparisons[0].condition)
    return titles if one_pair(comparisons) else (*titles, "methods")


def _place(item: Comparison, comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    if one_pair(comparisons):
        return condition_text(item.condition)
    return *place_cells(item.condition), methods_text(item)


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
        where = pair_place(item, comparisons)
        notes.extend(f"{where}, {finding.test}: {finding.note}." for finding in findings if finding.note)
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
    return level_text(p) if p is not None and level is not None and p < 0.001 and level < 0.001 else p_text(p)
