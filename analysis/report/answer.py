"""The answer in a few sentences, written from the numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from analysis.report.evidence import Evidence
from analysis.results.cells import Cell
from analysis.results.comparison import VERDICTS, Comparison, opposes, verdicts
from analysis.results.metrics import percent_sign
from analysis.results.published import repeated_verdicts
from analysis.results.wanted import is_number
from analysis.tables.claims import verdict_text
from analysis.tables.names import arm_name, data_name, one_pair, pair_place, where_text
from analysis.tables.published import thesis_pairs
from analysis.tables.table import count_text, estimate_text, p_text, points
from analysis.tables.tests import alpha_text, alphas, pair_name
from l2t_ray.errors import count
from l2t_ray.statistics.effect import Estimate

MOST_NAMED = 9  # places in a sentence; more stand in the table alone
MOST_METHODS = 4  # in a sentence, likewise


def answer(evidence: Evidence) -> list[str]:
    """What a reader wants first: the methods over all cells, the verdicts by cell, and what else is known."""
    comparisons, tested = evidence.comparisons, [item for item in evidence.comparisons if item.p is not None]
    if not any(cell.values for cell in evidence.cells):
        found = ["No run has finished yet, so nothing can be compared."]
    elif not comparisons:
        found = [
            _best(evidence),
            "Nothing is compared, because there is only one method or no two share a cell.",
        ]
    elif not tested:
        found = [f"{pair_name(comparisons)}: {_why_untested(comparisons)}, so there is no test yet.", _best(evidence)]
    else:
        over_all = _over_all(evidence)
        by_cell = _by_cell(evidence, tested) + _worst_ranked(evidence, tested)
        found = [over_all, by_cell] if over_all else [by_cell]
    if (places := _uncompared(evidence)) and comparisons:
        shown = "; ".join(places[:MOST_NAMED])
        more = f" and {len(places) - MOST_NAMED} more" if len(places) > MOST_NAMED else ""
        found.append(f"Not compared: {shown}{more}, without the methods above; --baseline or --compare names others.")
    return [*found, _rest(evidence)]


def _uncompared(evidence: Evidence) -> list[str]:
    """Returns the places where several methods have results and none is compared; if two are asked for, no place."""
    if evidence.question.pair:
        return []
    compared = {item.a.place for item in evidence.comparisons}
    cells = [cell for cell in evidence.cells if cell.values and cell.place not in compared]
    n_arms = Counter(cell.place for cell in cells)
    return [*dict.fromkeys(where_text(cell.condition) for cell in cells if n_arms[cell.place] > 1)]


@dataclass(frozen=True)
class _Found:
    """One method against another in a sentence."""

    arm: str
    base: str
    difference: Estimate
    is_higher: bool
    p: float | None  # after Holm's correction
    is_significant: bool
    margin: float
    n_family: int  # comparisons over which p is corrected
    digits: int = 2
    n_shared: int | None = None  # seeds behind the difference, if it is of fewer than all

    @property
    def text(self) -> str:
        low, high = self.difference.low, self.difference.high
        is_small = low is not None and high is not None and max(abs(low), abs(high)) < self.margin
        within = ", within the margin" if is_small else ""
        over = "" if self.n_shared is None else f" over {count(self.n_shared, 'common seed')}"
        ranks, mean = ("higher", "lower") if self.is_higher else ("lower", "higher")
        is_opposed = self.is_significant and opposes(self.difference, is_higher=self.is_higher)
        although = f", by ranks {ranks} although its mean is {mean}" if is_opposed else ""
        holm = "Holm " if self.n_family > 1 else ""
        shown = estimate_text(self.difference, sign=True, digits=self.digits)
        return f"{arm_name(self.arm)} ({shown}{over}{within}{although}, {holm}{_p(p_text(self.p))})"


def _over_all(evidence: Evidence) -> str:
    """The methods over all cells: who is higher, who is lower, who is not shown to differ."""
    found = [
        _Found(
            item.arm, item.base, item.difference, item.is_higher, item.p_holm, item.is_significant,
            evidence.question.margin, len(evidence.overall), item.comparisons[0].digits, item.n_shared,
        )
        for item in evidence.overall
        if len(item.comparisons) > 1
    ]  # fmt: skip
    if not found:
        return ""
    n_cells = sorted({len(item.comparisons) for item in evidence.overall if len(item.comparisons) > 1})
    cells = f"{n_cells[0]}" if len(n_cells) == 1 else f"{n_cells[0]} to {n_cells[-1]}"
    n_family = len(evidence.overall)  # those that share a single cell are corrected with the others
    corrected = "" if n_family == 1 else f", Holm over {n_family} methods"
    how = (
        f"mean difference in {evidence.question.difference_unit} with its 95 % interval; van Elteren's test{corrected}"
    )
    return f"Over {cells} cells {_ordered(found, evidence.question.words)} ({how})."


def _ordered(found: Sequence[_Found], words: tuple[str, str]) -> str:
    """The methods by what is shown of them: better, worse, not shown to differ; each with its numbers."""
    bases = {item.base for item in found}
    base = arm_name(bases.pop()) if len(bases) == 1 else "what it is compared with"
    groups = [
        (f"{words[0]} than {base}", [item for item in found if item.is_significant and item.is_higher]),
        (f"{words[1]} than {base}", [item for item in found if item.is_significant and not item.is_higher]),
        (f"not shown to differ from {base}", [item for item in found if not item.is_significant]),
    ]
    return "; ".join(
        f"{_listed([item.text for item in items])} {'is' if len(items) == 1 else 'are'} {text}"
        for text, items in groups
        if items
    )


def _listed(texts: Sequence[str]) -> str:
    shown = [*texts[:MOST_METHODS], *([f"{len(texts) - MOST_METHODS} more"] if len(texts) > MOST_METHODS else [])]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _by_cell(evidence: Evidence, tested: Sequence[Comparison]) -> str:
    comparisons, words = evidence.comparisons, evidence.question.words
    shown = dict(zip(comparisons, verdicts(comparisons), strict=True))
    n = count_text([cell for item in tested for cell in (item.a, item.b)])
    corrected = "" if len(comparisons) == 1 else f", Holm over all {len(comparisons)}"
    n_other = sum(item.deciding is not item.test for item in tested)
    other = f" (Brunner-Munzel in {n_other})" if n_other else ""
    how = f"two-sided Mann-Whitney{other} {_rule(tested)}{corrected}; {n} seeds a cell"
    if len({item.a.place for item in comparisons}) == 1:  # one cell, perhaps several methods
        is_paired = all(item.paired_difference.low is not None for item in tested)  # 3 common seeds or more
        differences = {item: item.paired_difference if is_paired else item.mean_difference for item in tested}
        sign = 1 if evidence.question.is_lower_better else -1
        found = [
            _Found(
                item.a.arm, item.b.arm, differences[item], item.is_higher, item.p_holm, item.is_significant_in_family,
                item.margin, item.n_family, item.digits, item.n_shared if is_paired else None,
            )
            for item in sorted(tested, key=lambda item: sign * differences[item].value)  # the best first
        ]  # fmt: skip
        unit = evidence.question.difference_unit
        told, place = _ordered(found, words), where_text(tested[0].condition)
        kind = "paired difference" if is_paired else "difference of means"
        return f"On {place} {told} ({kind} in {unit} with its 95 % interval; {how})."
    parts = []
    for verdict in VERDICTS:
        items = [item for item in comparisons if shown[item] == verdict]
        if items:
            name = verdict_text(verdict, words)
            within = f" within {points(items[0].margin, items[0].unit)}" if verdict == "equivalent" else ""
            places = "" if len(items) == len(comparisons) else _places(items, comparisons)
            parts.append(f"{name}{within} in {len(items)}{places}")
    crossed = [item for item in tested if item.decision is not None and item.is_significant]
    crossing = f"; {len(crossed)} of them past the boundary of their design, before that correction" if crossed else ""
    subject = f"of {pair_name(comparisons)}" if one_pair(comparisons) else f"with {arm_name(comparisons[0].b.method)}"
    return f"Of {len(comparisons)} comparisons {subject}: {', '.join(parts)}{crossing} ({how})."


def _places(items: Sequence[Comparison], comparisons: Sequence[Comparison]) -> str:
    """Where this is so, grouped by method and data set; nothing where that would be a long list."""
    if len(items) > MOST_NAMED:
        return ""
    several = not one_pair(comparisons)

    def group(item: Comparison) -> tuple[str, str, str]:
        arm = arm_name(item.a.arm) if several else item.condition.variant
        return arm, item.condition.data, ""

    texts = []
    for (arm, data, _), members in groupby(sorted(items, key=group), key=group):
        labels = [item.condition.samples_per_class for item in members]
        numeric = [label for label in labels if is_number(label)]
        at = f" at {', '.join(sorted(numeric, key=float))}" if numeric else ""
        at += "".join(f" at {label}" for label in labels if label and not is_number(label))
        texts.append(
            f"{arm + ' on ' if arm and several else ''}{data_name(data)}{'' if several or not arm else ' ' + arm}{at}"
        )
    return f" ({'; '.join(texts)})"


def _worst_ranked(evidence: Evidence, tested: Sequence[Comparison]) -> str:
    """What becomes of the tests if runs without a result are ranked last: leaving them out favours who loses runs."""
    affected = [item for item in tested if sum(item.ranked_last) and not item.decision]
    if not affected or "better" not in evidence.question.words:  # nobody says which end is the worst
        return ""
    lost = {(cell.condition, cell.arm): n for item in affected
            for cell, n in zip((item.a, item.b), item.ranked_last, strict=True)}  # fmt: skip
    n_lost = sum(lost.values())
    head = f" Ranked last, the {count(n_lost, 'run')} without a result change{'s' if n_lost == 1 else ''}"
    changed = [
        f"{pair_place(item, tested)}: {_p(p_text(item.worst_ranked.p))} instead of {_p(p_text(item.deciding.p))}"
        for item in affected
        if item.is_undone_by_lost_runs
    ]
    if not changed:
        return f"{head} no single test."
    return f"{head} {len(changed)} of {count(len(tested), 'single test')}, uncorrected ({'; '.join(changed)})."


def _rule(tested: Sequence[Comparison]) -> str:
    designed = [item for item in tested if item.decision]
    others = [item for item in tested if not item.decision]
    several = len({item.declared_by for item in designed}) > 1
    spent = " or ".join(f"{alpha:g}" for alpha in alphas(designed))
    design = f"by the declared group-sequential design{'s' if several else ''}, at levels that spend {spent} a cell"
    if not designed:
        return f"at {alpha_text(others)}"
    if not others:
        return design
    n = len(designed)
    return f"at {alpha_text(others)}, in {n} cell{'' if n == 1 else 's'} {design}"


def _why_untested(comparisons: Sequence[Comparison]) -> str:
    decisions = [item.decision for item in comparisons if item.decision]
    last = max((decision.look for decision in decisions), default=0)
    if last:
        return f"too few values at look {last}"
    if len(decisions) == len(comparisons):
        return "no look of the declared design has been reached"
    return "no cell has five seeds of both methods"


def nothing_missing(evidence: Evidence) -> str:
    """Returns the clause for a report without gaps."""
    if not evidence.results.is_listed:
        return "every run in the ledger has a result"
    return "every run that the design asked for has a result" if evidence.spared else "every wanted run has a result"


def _rest(evidence: Evidence) -> str:
    n_missing, reproductions = len(evidence.gaps), evidence.reproductions
    missing = nothing_missing(evidence)
    if n_missing:
        one = n_missing == 1
        missing = (
            f"{n_missing} wanted {'run has' if one else 'runs have'} no result and {'is' if one else 'are'} listed"
        )
    if not reproductions:
        return f"{missing[0].upper()}{missing[1:]}."
    counts = Counter(row.verdict for row in reproductions)
    found = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    of = f"Of {count(len(reproductions), 'cell')} that the thesis prints too"
    return f"{of}: {found}{_same_claims(evidence)}; {missing}."


def _same_claims(evidence: Evidence) -> str:
    common = thesis_pairs(evidence.all_pairs) if evidence.is_transfer else []
    if not common:
        return ""
    counts = Counter(
        claim.found_again(significant=item.is_significant, higher=item.is_higher) for item, claim in common
    )
    perfect = repeated_verdicts([claim for _, claim in common], [(i.a.mean.n, i.b.mean.n) for i, _ in common])
    opposite = f", {counts['opposite']} with the opposite sign" if counts["opposite"] else ""
    return (
        f"; of its {count(len(common), 'verdict')} on L2T-www against L2T-ww (single tests) {counts['found again']} "
        f"found again{opposite}, where a perfect repetition with as many seeds finds {perfect:.1f} on average"
    )


def _best(evidence: Evidence) -> str:
    is_lower = evidence.question.lower_is_better is True
    found = [cell for cell in evidence.cells if cell.mean.mean is not None]
    best: Cell = (min if is_lower else max)(found, key=lambda cell: cell.mean.mean or 0.0)
    half = "" if best.mean.half_width is None else f" \N{PLUS-MINUS SIGN} {best.mean.half_width:.{best.digits}f}"
    sign = percent_sign(evidence.question.metric)
    return (
        f"The {'lowest' if is_lower else 'highest'} mean is {best.mean.mean:.{best.digits}f}{half}{sign} by "
        f"{arm_name(best.arm)} on {where_text(best.condition)} (n = {best.mean.n})."
    )


def _p(text: str) -> str:
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"
