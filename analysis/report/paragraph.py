"""The paragraph on statistics that a paper needs, written from what this report computed; its references as BibTeX."""

import importlib.metadata
import re
from collections import Counter
from collections.abc import Sequence
from importlib import resources

from analysis.report.evidence import Evidence
from analysis.results.cells import Cell
from analysis.results.comparison import MOST_UNLIKE, Comparison
from analysis.tables.names import family_text, one_pair
from analysis.tables.render import escape_latex
from analysis.tables.table import count_text, points
from analysis.tables.tests import pair_name
from l2t_ray.errors import count
from l2t_ray.statistics.hypothesis import MIN_SEEDS, seed_list
from l2t_ray.statistics.sequential import Design

PLAIN = {
    "mann1947": "Mann and Whitney 1947", "holm1979": "Holm 1979", "welch1947": "Welch 1947",
    "vargha2000": "Vargha and Delaney 2000", "newcombe2006": "Newcombe 2006", "schuirmann1987": "Schuirmann 1987",
    "brunner2000": "Brunner and Munzel 2000", "vanelteren1960": "van Elteren 1960",
    "agarwal2021": "Agarwal et al. 2021", "demsar2006": "Demsar 2006", "bouthillier2021": "Bouthillier et al. 2021",
    "clopper1934": "Clopper and Pearson 1934",
    "lan1983": "Lan and DeMets 1983", "maurer2013": "Maurer and Bretz 2013",
}  # fmt: skip
KEYS = re.compile(rf"\[((?:{'|'.join(PLAIN)})(?:,(?:{'|'.join(PLAIN)}))*)\]")
OPEN = "\N{START OF TEXT}"  # stands for a bracket of the user's until all citations are in
COMPUTED_WITH = ("scipy", "numpy", "pandas", "matplotlib")


def paragraph(evidence: Evidence) -> str:
    """The paragraph as plain text, with references by name and year; empty without a comparison."""
    text = KEYS.sub(lambda keys: f"({'; '.join(PLAIN[key] for key in keys[1].split(','))})", _sentences(evidence))
    return text.replace(OPEN, "[")


def paragraph_latex(evidence: Evidence) -> str:
    r"""The paragraph for LaTeX, with `\cite` and the keys of `references`."""
    text = KEYS.sub(lambda keys: rf"\cite{{{keys[1]}}}", escape_latex(_sentences(evidence)))
    return text.replace(OPEN, "[") + "\n"


def _plain(text: str) -> str:
    """A text of the user's, in which no bracket begins a citation."""
    return text.replace("[", OPEN)


def references() -> str:
    """What the paragraph cites, and the paper of the method itself, as BibTeX."""
    return resources.files("analysis.report").joinpath("references.bib").read_text(encoding="utf-8")


def _sentences(evidence: Evidence) -> str:
    items, asked = evidence.comparisons, evidence.question
    if not items:
        return ""
    cells = [cell for item in items for cell in (item.a, item.b)]
    distinct = [*{id(cell): cell for cell in cells}.values()]  # a baseline stands in many comparisons
    n_missing = sum(len(cell.gaps) for cell in distinct)
    trained = "has results of" if n_missing else "was trained with"
    where = f"in {count(len(items), 'cell')}" if one_pair(items) else f"in {count(len(items), 'comparison')}"
    method, within = "method", " (data set and number of images a class)"
    fixed = "a seed fixes the training subset, the initial weights, the order of the batches and the augmentation"
    if not evidence.is_transfer:
        factors = items[0].condition.factors
        method = _plain(factors.method)
        within = f" ({_plain(' and '.join(part for part in (factors.data, factors.axis) if part))})"
        fixed = "a seed is given to the trainer, which draws with it what is random"
    parts = [
        f"Each {method} {trained} {_seeds(cells)} in each cell{within}; {fixed}.",
        f"We compared {_plain(pair_name(items))} {where} by two-sided Mann-Whitney tests [mann1947]{_rule(evidence)}",
        *_unlike(items),
        *_untested(items),
        "We report means with 95 % t intervals, differences over equal seeds with t intervals of the paired "
        "differences, differences of means with Welch's t intervals [welch1947], and the effect size A12 "
        "[vargha2000] with its interval [newcombe2006].",
    ]
    if any(item.has_values and item.equivalence.p is not None for item in items):
        parts.append(
            f"Equivalence within {_plain(points(asked.margin, items[0].unit))} was tested by two one-sided rank tests "
            "[schuirmann1987], corrected likewise."
        )
    if any(len(found.comparisons) > 1 for found in evidence.overall):
        parts.append(
            "Over all cells together we report the mean difference, the mean A12 with a bootstrap interval stratified "
            "by cell and method [agarwal2021], and van Elteren's stratified Mann-Whitney test [vanelteren1960]."
        )
    if any(item.paired_superiority for item in items):
        parts.append(
            "On equal seeds we report how often one method is above the other, with an exact interval [clopper1934], "
            "and read it against 0.75 [bouthillier2021]."
        )
    if evidence.ranking:
        parts.append(
            f"{len(evidence.ranking.arms)} methods are compared by their average ranks over "
            f"{evidence.ranking.ranks.n_cells} cells with Friedman's test and Nemenyi's critical difference "
            "[demsar2006]."
        )
    if n_missing:
        total = sum(cell.n_wanted for cell in distinct)
        states = Counter(gap.outcome for cell in distinct for gap in cell.gaps)
        reasons = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
        parts.append(f"{n_missing} of these {total} runs have no result ({_plain(reasons)}).")
    return " ".join([*parts, f"Computed with {computed_with()}."])


def _rule(evidence: Evidence) -> str:
    items, asked = evidence.comparisons, evidence.question
    groups = Counter(evidence.designs[item.declared_by] for item in items if item.decision)
    n_designed = sum(groups.values())
    at = "" if n_designed == len(items) else f" at {asked.alpha:g}"
    test = f"{at} ({_methods(evidence)})"
    if not groups:
        return f"{test}, corrected over {family_text(items)} [holm1979]."
    designs = [
        f"{'' if n == len(items) else f'{n} of them '}after {_looks(design)} seeds by a group-sequential design "
        f"declared in the sweep file, which spends {design.alpha:g} a cell by an O'Brien-Fleming-like function"
        for design, n in groups.items()
    ]
    corrected = f"The p-values, adjusted for the looks, were corrected over {family_text(items)} [holm1979,maurer2013]."
    return f"{test}, {', and '.join(designs)} [lan1983]. {corrected}"


def _looks(design: Design) -> str:
    *first, last = map(str, design.looks)
    return f"{', '.join(first)} and {last}" if first else last


def _unlike(items: Sequence[Comparison]) -> list[str]:
    n = sum(item.deciding is not item.test for item in items)
    if not n:
        return []
    return [
        f"In {n} of them, where spreads or numbers of seeds differ by more than {MOST_UNLIKE:g} to 1, Brunner and "
        "Munzel's test [brunner2000] decides."
    ]


def _untested(items: Sequence[Comparison]) -> list[str]:
    few = sum(item.test.p is None for item in items)
    early = sum(item.test.p is not None and item.p is None for item in items)
    reasons = []
    if few:
        reasons.append(f"{few} had no test, as fewer than {MIN_SEEDS} runs of a method have results")
    if early:
        reasons.append(f"{early} had no test yet, as no look of the design with enough results had been reached")
    return [f"Of these cells, {'; '.join(reasons)}."] if reasons else []


def _seeds(cells: list[Cell]) -> str:
    trained = {tuple(cell.values) for cell in cells}
    n = count_text(cells)
    return f"{n} seeds ({seed_list(trained.pop())})" if len(trained) == 1 else f"{n} seeds"


def _methods(evidence: Evidence) -> str:
    methods = dict.fromkeys(item.test.method for item in evidence.comparisons if item.test.p is not None)
    return "; ".join(methods) or "not enough seeds for a p-value yet"


def computed_with() -> str:
    """The libraries that computed this report: `scipy 1.17.1, numpy 2.4.6, ...`."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in COMPUTED_WITH)
