"""Tables of our numbers against the thesis' printed ones, and of the thesis' p-values against its own tables."""

from collections.abc import Sequence

from scipy import stats

from analysis.results.published import ALPHA, MINORITY, READINGS, SEEDS, Reproduction, load_claims, readings
from analysis.tables.names import arm_name, data_name
from analysis.tables.table import NOTHING, PLUS_MINUS, Table, p_text, points, signed
from l2t_ray.statistics.means import half_width


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
        f"{len(rows)} cells, at {rows[0].alpha:g}. Reproduced: shown to differ by less than {points(rows[0].margin)}; "
        "contradicted: by more; differs: shown to differ, not by how much; compatible: none of these.",
        "Shown within: the smallest margin, in points, with which one test alone would call the cell reproduced. The "
        f"printed +- alone is too wide for {points(rows[0].margin)} in {_unreachable(rows)} cells, whatever is "
        "measured here.",
    )
    header = ("data set", "images a class", "method", "verdict", "our n", "ours, %", "thesis, %", "difference",
              "Holm p: differs", "within", "beyond", "shown within")  # fmt: skip
    return Table(name, "Against the thesis' printed numbers", header, tuple(texts), notes, n_text=4)


def claims_table(rows_of: Sequence[Reproduction] | None = None) -> Table:
    """The thesis' p-values beside those recomputed from its own tables: all 15, or those of these cells' places."""
    places = None if rows_of is None else {(row.published.data, row.published.samples_per_class) for row in rows_of}
    rows = tuple(
        (
            data_name(claim.data), claim.samples_per_class, "holds" if claim.holds(READINGS[0]) else "does not hold",
            signed(claim.difference), signed(claim.recomputed_difference), claim.p_printed,
            *(p_text(claim.p[reading]) for reading in READINGS), p_text(claim.p_holm),
        )
        for claim in load_claims()
        if places is None or (claim.data, claim.samples_per_class) in places
    )  # fmt: skip
    counts = readings()
    holding = ", ".join(f"{counts[reading]} if it is a {reading}" for reading in READINGS)
    claimed = [claim for claim in load_claims() if claim.claims_significance]
    notes = (
        "A claim holds where Welch's p from the printed means and +- lies on the printed p's side of 0.05, the +- read "
        f"as a 95 % half-width. Of 15 claims hold: {holding}. Only the first reading agrees with all, so it is the one "
        "taken: sd = half-width \N{MULTIPLICATION SIGN} \N{SQUARE ROOT}30 / 2.045.",
        f"Holm's correction over all 15 is what the thesis does not print: of its {len(claimed)} significant "
        f"differences {sum(claim.p_holm < ALPHA for claim in claimed)} stand.",
    )
    header = ("data set", "images a class", "claim", "difference", "of the means", "p printed",
              *(f"p, {reading}" for reading in READINGS), "Holm p")  # fmt: skip
    title = "The thesis' p-values from its own tables (L2T-www against L2T-ww)"
    return Table("thesis_claims", title, header, rows, notes, n_text=3)


def _unreachable(rows: Sequence[Reproduction]) -> str:
    # infinitely many runs with exactly the printed mean would still leave the printed mean's standard error
    printed = [row.published for row in rows]
    wide = sum(float(stats.t.isf(rows[0].alpha, SEEDS - 1)) * p.sd() / SEEDS**0.5 >= rows[0].margin for p in printed)
    return f"{wide} of {len(rows)}"
