"""What is claimed: a table of the methods over all cells, and a table with a row for each comparison."""

from collections import Counter
from collections.abc import Sequence

from analysis.results.comparison import VERDICTS, Comparison, Verdict, opposes, verdicts
from analysis.results.overall import Overall
from analysis.tables.names import (
    arm_name,
    family_text,
    methods_text,
    one_pair,
    pair_place,
    place_cells,
    place_titles,
)
from analysis.tables.table import (
    NOTHING,
    Table,
    condition_text,
    estimate_text,
    level_text,
    p_text,
    points,
    unlike_notes,
)
from analysis.tables.tests import alpha_text, look_p_text, pair_name
from l2t_ray.errors import count
from l2t_ray.statistics.effect import MEANINGFUL, Estimate

SHORT = 10  # seeds below which the bootstrap covers too little (docs/statistics.md)
Words = tuple[str, str]  # of a higher and of a lower value: better and worse, where that is known


def verdict_text(verdict: Verdict, words: Words) -> str:
    """A verdict in words: better, worse, equivalent, undecided, no test."""
    return {"higher": words[0], "lower": words[1], "untested": "no test"}.get(verdict, verdict)


def overall_table(
    found: Sequence[Overall], comparisons: Sequence[Comparison], words: Words = ("better", "worse")
) -> Table | None:
    """Each method against another over all cells, the largest difference first; None where all are in one cell."""
    if not any(len(item.comparisons) > 1 for item in found):
        return None
    shown = verdicts(comparisons)
    counts: dict[tuple[str, str], Counter[Verdict]] = {}
    for item, verdict in zip(comparisons, shown, strict=True):
        counts.setdefault((item.a.arm, item.b.arm), Counter())[verdict] += 1
    bases = {item.base for item in found}
    used = [verdict for verdict in VERDICTS if any(counts[item.arm, item.base][verdict] for item in found)]
    rows = tuple(
        (
            arm_name(item.arm) if len(bases) == 1 else f"{arm_name(item.arm)} against {arm_name(item.base)}",
            str(len(item.comparisons)),
            estimate_text(item.difference, sign=True, digits=item.comparisons[0].digits),
            estimate_text(item.a12),
            p_text(item.test.p),
            p_text(item.p_holm),
            *(str(counts[item.arm, item.base][verdict]) for verdict in used),
        )
        for item in found
    )
    header = (
        found[0].comparisons[0].condition.factors.method, "cells", "difference", "A12", "van Elteren p", "Holm p",
        *(verdict_text(verdict, words) for verdict in used),
    )  # fmt: skip
    against = f" against {arm_name(found[0].base)}" if len(bases) == 1 else ""
    notes = [
        "Difference and A12 are means over the cells, each counting the same, with 95 % intervals: "
        f"{' or '.join(dict.fromkeys(item.difference.method for item in found))} over the seeds; a bootstrap of the "
        "seeds within each cell and method. Van Elteren's test is Mann-Whitney's over all cells, which it takes as "
        "independent: cells of the same seeds and data are not quite, so its p may be too small. Holm corrects it over "
        f"{count(len(found), 'row')}.",
        f"On the right: the number of comparisons with each verdict, corrected over {family_text(comparisons)}. "
        f"Undecided: neither a difference nor equivalence within {points(comparisons[0].margin, comparisons[0].unit)} "
        "is shown.",
    ]
    if min(len(cell.values) for item in found for pair in item.comparisons for cell in (pair.a, pair.b)) < SHORT:
        notes.append(f"With fewer than {SHORT} seeds the bootstrap's interval of A12 is too short.")
    notes.extend(opposed_notes([
        arm_name(item.arm) for item in found
        if item.is_significant and opposes(item.difference, is_higher=item.is_higher)
    ]))  # fmt: skip
    left_out = sum(item.n_left_out for item in found)
    if left_out:
        notes.append(f"{left_out} comparisons with fewer than five results of a method count only on the right.")
    return Table("overall", f"Methods{against} over all cells", header, rows, tuple(notes))


def verdict_table(comparisons: Sequence[Comparison], words: Words = ("better", "worse")) -> Table:
    """A row for each comparison: its difference, its test and what that shows."""
    rows = []
    many = not one_pair(comparisons)
    for item, verdict in zip(comparisons, verdicts(comparisons), strict=True):
        place = (*place_cells(item.condition), methods_text(item)) if many else condition_text(item.condition)
        shown = f"{verdict_text(verdict, words)}{'*' if item.is_undone_by_lost_runs else ''}"
        rows.append((
            *place, shown, f"{item.a.mean.n}, {item.b.mean.n}", _paired(item), _p(item),
            p_text(item.p_holm), estimate_text(item.a12) if item.has_values else NOTHING, _equal_seeds(item),
        ))  # fmt: skip
    undone = any(item.is_undone_by_lost_runs for item in comparisons)
    where = (*place_titles(comparisons[0].condition), *(("methods",) if many else ()))
    header = (*where, "verdict", "n", "difference", "p", "Holm p", "A12", "equal seeds")
    notes = [
        "Difference: mean over the seeds that both methods have, with the 95 % t interval of paired differences; p "
        "is Mann-Whitney's, two-sided, which does not pair seeds. The intervals are single ones; the verdicts are "
        "corrected, so an interval without 0 may stand beside undecided.",
        f"The verdict holds after Holm's correction over {family_text(comparisons)} at {alpha_text(comparisons)}. "
        f"Equivalent: within {points(comparisons[0].margin, comparisons[0].unit)}. Undecided: neither is shown. A12: "
        "how often a run of the first method is above one of the second, ties counting half.",
        "Equal seeds: how often it is above with the same seed (Clopper and Pearson's interval), read against "
        f"{MEANINGFUL:g} in the table of sizes.",
        *(["* With the runs without a result ranked last, the single test ends otherwise."] if undone else []),
        *unlike_notes(comparisons),
        *opposed_notes([
            pair_place(item, comparisons) for item in comparisons
            if item.is_significant_in_family and opposes(item.paired_difference, is_higher=item.is_higher)
        ]),
    ]  # fmt: skip
    title = f"{pair_name(comparisons)}, cell by cell" if many else f"{methods_text(comparisons[0])}, cell by cell"
    return Table("verdicts", title, header, tuple(rows), tuple(notes), n_text=len(where) + 1)


def opposed_notes(names: Sequence[str]) -> list[str]:
    """A sentence on tests of ranks that point the other way than the means; none without one."""
    return [f"{'; '.join(names)}: ranks decide, and the mean difference points the other way."] if names else []


def _p(item: Comparison) -> str:
    decision = item.decision
    if decision is None:
        return p_text(item.deciding.p)
    if not decision.look:
        return "no look yet"
    if decision.p is None:
        return f"too few values at look {decision.look}"
    return f"{look_p_text(decision)} (look {decision.look}, level {level_text(decision.level)})"


def _equal_seeds(item: Comparison) -> str:
    return NOTHING if item.paired_superiority is None else estimate_text(item.paired_superiority)


def _paired(item: Comparison) -> str:
    found: Estimate = item.paired_difference
    return (
        NOTHING if found.value != found.value else estimate_text(found, sign=True, digits=item.digits)
    )  # nan: no common seed
