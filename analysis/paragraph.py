"""The paragraph on statistics that a paper needs, written from what this report did; its references as BibTeX."""

import re
from collections import Counter
from importlib import resources

from analysis.cells import Cell
from analysis.evidence import Evidence
from analysis.hypothesis import seed_list
from analysis.provenance import computed_with
from analysis.render import escape_latex
from analysis.tables import count_text, points
from analysis.tables_tests import pair_name

PLAIN = {
    "mann1947": "Mann and Whitney 1947", "holm1979": "Holm 1979", "efron1987": "Efron 1987", "vargha2000":
    "Vargha and Delaney 2000", "newcombe2006": "Newcombe 2006", "schuirmann1987": "Schuirmann 1987", "lan1983":
    "Lan and DeMets 1983", "maurer2013": "Maurer and Bretz 2013",
}  # fmt: skip
KEYS = re.compile(r"\[([\w,]+)\]")


def paragraph(evidence: Evidence) -> str:
    """What was done, in sentences, with references by name and year.

    Args:
        evidence: what was found.

    Returns:
        Plain text; empty without a comparison.
    """
    return KEYS.sub(lambda found: f"({'; '.join(PLAIN[key] for key in found[1].split(','))})", _sentences(evidence))


def paragraph_latex(evidence: Evidence) -> str:
    r"""The same for LaTeX, with `\cite`.

    Args:
        evidence: what was found.

    Returns:
        A paragraph; its keys are those of `references`.
    """
    return KEYS.sub(lambda found: rf"\cite{{{found[1]}}}", escape_latex(_sentences(evidence))) + "\n"


def references() -> str:
    """What the paragraph cites, and the method's own paper.

    Returns:
        BibTeX.
    """
    return resources.files("analysis").joinpath("references.bib").read_text(encoding="utf-8")


def _sentences(evidence: Evidence) -> str:
    items, asked = evidence.comparisons, evidence.question
    if not items:
        return ""
    cells = [cell for item in items for cell in (item.a, item.b)]
    designed = [item for item in items if item.decision]
    n_missing = sum(len(cell.gaps) for cell in cells)
    one = len(items) == 1
    parts = [
        f"Each method was trained with {_seeds(cells)} in each cell (data set and number of images a class); a seed "
        "fixes the training subset, the initial weights, the order of the batches and the augmentation.",
        f"We compared {pair_name(items)} in {len(items)} cell{'' if one else 's'} by two-sided Mann-Whitney tests "
        f"[mann1947] at {asked.alpha:g} ({_methods(evidence)})",
    ]
    if designed:
        design = next(iter(evidence.designs.values()))
        whose = "" if len(designed) == len(items) else f"{len(designed)} of them "
        looks = " and ".join(filter(None, (", ".join(map(str, design.looks[:-1])), str(design.looks[-1]))))
        parts[-1] += (
            f", {whose}after {looks} seeds by a group-sequential design declared before the first run, which spends "
            f"{design.alpha:g} a cell by an O'Brien-Fleming-like function [lan1983]."
        )
        parts.append(f"The p-values, adjusted for the looks, were corrected over {asked.family_text} "
                     "[holm1979,maurer2013].")  # fmt: skip
    else:
        parts[-1] += f", corrected over {asked.family_text} [holm1979]."
    parts.append(
        "We report means with 95 % t intervals, differences of means with BCa bootstrap intervals of 9,999 resamples "
        "[efron1987], and the effect size A12 [vargha2000] with its interval [newcombe2006]."
    )
    if any(item.has_values and item.equivalence.p is not None for item in items):
        parts.append(
            f"Equivalence within {points(asked.margin)} was tested by two one-sided rank tests [schuirmann1987]."
        )
    if n_missing:
        total = sum(cell.n_wanted for cell in cells)
        states = Counter(gap.outcome for cell in cells for gap in cell.gaps)
        told = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
        parts.append(f"{n_missing} of these {total} runs have no result ({told}).")
    return " ".join([*parts, f"Computed with {computed_with()}."])


def _seeds(cells: list[Cell]) -> str:
    wanted = {seeds for cell in cells for seeds in cell.seeds.values()}
    n = count_text(cells)
    return f"{n} seeds ({seed_list(wanted.pop())})" if len(wanted) == 1 else f"{n} seeds"


def _methods(evidence: Evidence) -> str:
    found = dict.fromkeys(item.test.method for item in evidence.comparisons if item.test.p is not None)
    return "; ".join(found) or "not enough seeds for a p-value yet"
