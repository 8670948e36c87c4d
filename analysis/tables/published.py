"""Tables of our numbers against the thesis' printed ones, and of the thesis' p-values against its own tables."""

from collections.abc import Sequence

from scipy import stats

from analysis.results.comparison import Comparison
from analysis.results.published import (
    ALPHA,
    MINORITY,
    READINGS,
    SEEDS,
    Claim,
    Reproduction,
    load_claims,
    plain,
    readings,
)
from analysis.tables.names import arm_name, data_name
from analysis.tables.table import NOTHING, PLUS_MINUS, Table, p_text, points, signed
from l2t_ray.statistics.means import half_width

THESIS_PAIR = ("l2t_www", "l2t_ww")


def reproduction_table(rows: Sequence[Reproduction], name: str = "reproduction") -> Table | None:
    """Our cells against the thesis' numbers, a row for each cell; None where no cell has a counterpart."""
    if not rows:
        return None
    texts = []
    for row in rows:
        mean, theirs = row.cell.mean, row.published
        ours = NOTHING if mean.mean is None else f"{mean.mean:.2f}"
        half = "" if mean.half_width is None else f" {PLUS_MINUS} {mean.half_width:.2f}"
        difference = None if mean.mean is None else mean.mean - theirs.mean
        data = "STL-10, smallest class" if theirs.data == MINORITY else data_name(theirs.data)
        texts.append((
            data, theirs.samples_per_class, arm_name(theirs.method), row.verdict, str(mean.n), ours + half,
            f"{theirs.mean:.2f} {PLUS_MINUS} {half_width(theirs.sd(), SEEDS):.2f}", signed(difference),
            p_text(row.p_holm), p_text(row.p_equivalent_holm), p_text(row.p_beyond_holm),
            NOTHING if row.shown_within is None else f"{row.shown_within:.2f}",
        ))  # fmt: skip
    counts = {
        verdict: sum(row.verdict == verdict for row in rows) for verdict in dict.fromkeys(r.verdict for r in rows)
    }
    notes = (
        f"{len(rows)} cells: {', '.join(f'{n} {verdict}' for verdict, n in counts.items())}.",
        f"Welch's t tests from both summaries, {SEEDS} published seeds, each kind corrected by Holm over the "
        f"{len(rows)} cells, at {rows[0].alpha:g}: the means differ; by less than {points(rows[0].margin)} (the larger "
        "of two one-sided p); by more. Reproduced: by less is shown; contradicted: by more is shown; differs: a "
        "difference is shown, not how large; undecided: none of these.",
        "Shown within: the smallest margin, in points, with which one test alone would call the cell reproduced. The "
        f"printed \N{PLUS-MINUS SIGN} alone is too wide for {points(rows[0].margin)} in {_unreachable(rows)} cells, "
        "whatever is measured here.",
    )
    header = ("data set", "images a class", "method", "verdict", "our n", "ours, %", "thesis, %", "difference",
              "p (differs)", "p (by less)", "p (by more)", "shown within")  # fmt: skip
    return Table(name, "Against the thesis' printed numbers", header, tuple(texts), notes, n_text=4)


def thesis_pairs(comparisons: Sequence[Comparison]) -> list[tuple[Comparison, Claim]]:
    """Our comparisons of L2T-www with L2T-ww that the thesis has too; none whose n a declared design decided."""
    claims = {(claim.data, claim.samples_per_class): claim for claim in load_claims()}
    return [
        (item, claims[place])
        for item in comparisons
        if (item.a.method, item.b.method) == THESIS_PAIR
        and item.decision is None
        and item.deciding.p is not None
        and not item.condition.variant
        and not item.b.condition.variant
        and (place := (plain(item.condition.data), item.condition.samples_per_class)) in claims
    ]


def claims_table(comparisons: Sequence[Comparison] | None = None) -> Table:
    """The thesis' p-values beside those recomputed from its own tables: all 15, or those that we have tested too."""
    ours = {(claim.data, claim.samples_per_class): item for item, claim in thesis_pairs(comparisons or ())}
    rows = tuple(
        (
            data_name(claim.data), claim.samples_per_class,
            *([_again(claim, ours[claim.data, claim.samples_per_class])] if ours else []),
            signed(claim.difference), claim.p_printed,
            *(p_text(claim.p[reading]) for reading in READINGS), p_text(claim.p_holm),
        )
        for claim in load_claims()
        if comparisons is None or (claim.data, claim.samples_per_class) in ours
    )  # fmt: skip
    counts = readings()
    holding = ", ".join(f"{counts[reading]} as a {reading}" for reading in READINGS)
    stand = [claim for claim in load_claims() if claim.claims_significance and claim.p_holm < ALPHA]
    claimed = [claim for claim in load_claims() if claim.claims_significance]
    notes = (
        f"The p on the right are Welch's from the printed means and {PLUS_MINUS}. The thesis does not say what its "
        f"{PLUS_MINUS} is. The number of its 15 verdicts at 0.05 that these p share depends on how it is read: "
        f"{holding}. Only the first shares all, so it is the one taken: sd = half-width \N{MULTIPLICATION SIGN} "
        "\N{SQUARE ROOT}30 / 2.045. Holm p is of this reading.",
        f"After Holm's correction over all 15, which the thesis does not print, {len(stand)} of its {len(claimed)} "
        "significant differences stand.",
        *(
            [
                "Here: whether our single test finds the printed verdict again; opposite: significant with the other "
                "sign."
            ]
            if ours
            else []
        ),
    )
    header = ("data set", "images a class", *(["here"] if ours else []), "printed difference", "printed p",
              *(f"p, {reading}" for reading in READINGS), "Holm p")  # fmt: skip
    title = "The thesis' p-values from its own tables (L2T-www against L2T-ww)"
    return Table("thesis_claims", title, header, rows, notes, n_text=3 if ours else 2)


def _again(claim: Claim, item: Comparison) -> str:
    return claim.found_again(significant=item.is_significant, higher=item.is_higher)


def _unreachable(rows: Sequence[Reproduction]) -> str:
    # infinitely many runs with exactly the printed mean would still leave the printed mean's standard error
    printed = [row.published for row in rows]
    wide = sum(float(stats.t.isf(rows[0].alpha, SEEDS - 1)) * p.sd() / SEEDS**0.5 >= rows[0].margin for p in printed)
    return f"{wide} of {len(rows)}"
