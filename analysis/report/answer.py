"""The answer in three sentences, written from the numbers; and a sentence for each comparison."""

import statistics
from collections import Counter
from collections.abc import Sequence

from analysis.results.cells import Cell
from analysis.results.comparison import Comparison
from analysis.results.metrics import percent_sign
from analysis.results.published import Reproduction, load_claims, plain
from analysis.results.runs import METRIC
from analysis.results.wanted import images_text
from analysis.tables.table import arm_name, count_text, estimate_text, level_text, p_text, points, signed
from analysis.tables.tests import alpha_text, alphas, look_p_text, pair_name
from l2t_ray.errors import count
from l2t_ray.statistics.hypothesis import Finding

THESIS_PAIR = ("l2t_www", "l2t_ww")


def answer(
    cells: Sequence[Cell],
    comparisons: Sequence[Comparison],
    reproductions: Sequence[Reproduction],
    n_missing: int,
    metric: str = METRIC,
) -> list[str]:
    """The three sentences that a reader wants first: what was found, how large it is, and what else is known."""
    tested = [item for item in comparisons if item.p is not None]
    if not any(cell.values for cell in cells):
        first, second = "No run has finished yet.", "So nothing can be compared."
    elif not comparisons:
        first = _best(cells, metric)
        second = "Nothing is compared, because there is only one method or no two share a cell."
    elif not tested:
        first = f"{pair_name(comparisons)}: {_why_untested(comparisons)}, so there is no test yet."
        second = _best(cells, metric)
    else:
        first, second = _result(tested, metric) + _worst_ranked(tested, metric), _size(tested)
    return [first, second, _rest(tested, reproductions, n_missing)]


def claim(item: Comparison, family: str) -> str:
    """A sentence on one comparison, with its n, test and correction; `family` says what p is corrected over."""
    a, b = (arm_name(cell.arm) for cell in (item.a, item.b))
    where = f"{item.condition.data}, {images_text(item.condition.samples_per_class)}"
    if not item.has_values:
        return f"{where}: {a} and {b} cannot be compared, one has no finished run."
    size = f"{estimate_text(item.mean_difference, sign=True)} points"
    n = f"n = {item.a.mean.n} and {item.b.mean.n}"
    if item.test.p is None:
        return f"{where}: {a} differs from {b} by {size}; {item.test.note} ({n})."
    if item.decision is not None and item.p is None:
        look, counts = item.decision.look, item.decision.n
        short = f"look {look} of the declared design has too few values for a p"
        why = short if look else "the declared design has taken no look yet"
        n = f"n = {counts[0]} and {counts[1]}" if look else n
        return f"{where}: {a} differs from {b} by {size}; {why} ({n})."
    if item.decision is not None:
        decision = item.decision
        verdict = f"{decision.state} at look {decision.look} of the declared design"
        test = (
            f"{_p(look_p_text(decision))} against the look's level {level_text(decision.level)}, adjusted for the "
            f"looks {_p(p_text(decision.p_adjusted))}; Holm over {family}: {_p(p_text(item.p_holm))}"
        )
        n = f"n = {decision.n[0]} and {decision.n[1]}"
    else:
        verdict = "significant after correction" if item.is_significant_in_family else (
            "significant by itself only" if item.is_significant else "not significant"
        )  # fmt: skip
        test = f"{_p(p_text(item.test.p))}, {item.test.method}; Holm over {family}: {_p(p_text(item.p_holm))}"
    a12 = estimate_text(item.a12)
    return f"{where}: {a} against {b} {size}, {verdict} ({n}; two-sided Mann-Whitney, {test}; A12 {a12})."


def _result(tested: Sequence[Comparison], metric: str) -> str:
    better, worse = ("better", "worse") if "accuracy" in metric else ("higher", "lower")  # not all metrics should rise
    a, b = pair_name(tested).split(" against ")
    n = count_text([cell for item in tested for cell in (item.a, item.b)])
    corrected = _better_worse([item for item in tested if item.is_significant_in_family])
    single = _better_worse([item for item in tested if item.is_significant])
    how = f"two-sided Mann-Whitney {_rule(tested)}"
    if single == ([], []):
        every = "the one cell" if len(tested) == 1 else f"any of {len(tested)} cells"
        return f"No difference between {a} and {b} is found in {every} ({how}; {n} seeds a cell)."
    counts = (
        f"{a} is {better} than {b} in {len(corrected[0])} of {len(tested)} cells{_list(corrected[0])} and {worse} in "
        f"{len(corrected[1])}{_list(corrected[1])}"
    )
    if corrected == single:
        return f"{counts}, with and without Holm's correction ({how}; {n} seeds a cell)."
    return (
        f"{counts} after Holm's correction; single tests find it {better} in {len(single[0])}{_list(single[0])} and "
        f"{worse} in {len(single[1])}{_list(single[1])} ({how}; {n} seeds a cell)."
    )


def _worst_ranked(tested: Sequence[Comparison], metric: str) -> str:
    """What becomes of the tests if runs without a result are ranked last: leaving them out favours who loses runs."""
    affected = [item for item in tested if sum(item.ranked_last) and not item.decision]
    if not affected or "accuracy" not in metric:  # of another metric nobody says which end is the worst
        return ""
    lost = {(cell.condition, cell.arm): n for item in affected
            for cell, n in zip((item.a, item.b), item.ranked_last, strict=True)}  # fmt: skip
    n_lost = sum(lost.values())
    head = f" Ranked last, the {count(n_lost, 'run')} without a result change{'s' if n_lost == 1 else ''}"
    changed = [
        f"{item.condition}: {_p(p_text(item.worst_ranked.p))} instead of {_p(p_text(item.test.p))}"
        for item in affected
        if _sign(item.worst_ranked, item.alpha) != _sign(item.test, item.alpha)
    ]
    if not changed:
        return f"{head} no single test."
    return f"{head} {len(changed)} of {count(len(tested), 'single test')} ({'; '.join(changed)})."


def _sign(found: Finding, alpha: float) -> int:
    """1 where a test finds a higher, -1 where it finds b higher, 0 where it finds no difference."""
    if found.p is None or found.statistic is None or found.p >= alpha:
        return 0
    return 1 if 2 * found.statistic > found.n[0] * found.n[1] else -1


def _rule(tested: Sequence[Comparison]) -> str:
    designed = [item for item in tested if item.decision]
    plain = [item for item in tested if not item.decision]
    several = len({item.declared_by for item in designed}) > 1
    spent = " or ".join(f"{alpha:g}" for alpha in alphas(designed))
    design = f"by the declared group-sequential design{'s' if several else ''}, at levels that spend {spent} a cell"
    if not designed:
        return f"at {alpha_text(plain)}"
    if not plain:
        return design
    n = len(designed)
    return f"at {alpha_text(plain)}, in {n} cell{'' if n == 1 else 's'} {design}"


def _why_untested(comparisons: Sequence[Comparison]) -> str:
    decisions = [item.decision for item in comparisons if item.decision]
    last = max((decision.look for decision in decisions), default=0)
    if last:
        return f"too few values at look {last}"
    if len(decisions) == len(comparisons):
        return "no look of the declared design has been reached"
    return "no cell has five seeds of both methods"


def _better_worse(items: Sequence[Comparison]) -> tuple[list[Comparison], list[Comparison]]:
    better = [item for item in items if (item.shift.value or item.difference or 0) > 0]
    return better, [item for item in items if item not in better]


def _size(tested: Sequence[Comparison]) -> str:
    largest = max(tested, key=lambda item: abs(item.difference or 0))
    equivalent = sum((item.equivalence.p or 0) < item.alpha for item in tested if item.equivalence.p is not None)
    middle = statistics.median(item.a12.value for item in tested)
    cells = f"{equivalent or 'no'} cell{'s' if equivalent > 1 else ''}"
    return (
        f"The largest difference is {signed(largest.difference)} points ({largest.condition}, 95 % interval "
        f"{estimate_text(largest.mean_difference, sign=True).split(' ', 1)[-1]}), the median A12 over cells is "
        f"{middle:.2f}, and the two are shown to be equivalent within {points(tested[0].margin)} in {cells}."
    )


def _rest(tested: Sequence[Comparison], reproductions: Sequence[Reproduction], n_missing: int) -> str:
    missing = "every wanted run has a result"
    if n_missing:
        one = n_missing == 1
        missing = (
            f"{n_missing} wanted {'run has' if one else 'runs have'} no result and {'is' if one else 'are'} listed"
        )
    if not reproductions:
        return f"{missing[0].upper()}{missing[1:]}, and no cell has a counterpart in the thesis."
    counts = Counter(row.verdict for row in reproductions)
    verdicts = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    same = _same_claims(tested)
    return f"Of {len(reproductions)} cells that the thesis prints too: {verdicts}{same}; {missing}."


def _same_claims(tested: Sequence[Comparison]) -> str:
    claims = {(claim.data, claim.samples_per_class): claim for claim in load_claims()}
    common = [
        (item, claims[plain(item.condition.data), item.condition.samples_per_class])
        for item in tested
        if (item.a.method, item.b.method) == THESIS_PAIR
        and not item.condition.variant
        and (plain(item.condition.data), item.condition.samples_per_class) in claims
    ]
    if not common:
        return ""
    agree = sum(item.is_significant == claim.claims_significance for item, claim in common)
    return f", and its verdict on significance is found again in {agree} of {len(common)} comparisons"


def _best(cells: Sequence[Cell], metric: str) -> str:
    best = max((cell for cell in cells if cell.mean.mean is not None), key=lambda cell: cell.mean.mean or 0)
    half = "" if best.mean.half_width is None else f" \N{PLUS-MINUS SIGN} {best.mean.half_width:.2f}"
    return (
        f"The highest mean is {best.mean.mean:.2f}{half}{percent_sign(metric)} by {arm_name(best.arm)} on "
        f"{best.condition.data} with {images_text(best.condition.samples_per_class)} (n = {best.mean.n})."
    )


def _list(items: Sequence[Comparison]) -> str:
    if not items or len(items) > 9:
        return ""
    return f" ({', '.join(str(item.condition) for item in items)})"


def _p(text: str) -> str:
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"
