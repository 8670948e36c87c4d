"""Tables of methods at their own settings and at their best ones, and of what transfer adds to scratch under either."""

from collections.abc import Sequence

from analysis.results.comparison import Comparison
from analysis.results.tuned import Gain, Tuning
from analysis.results.wanted import TRANSFER
from analysis.tables.names import MINUS, arm_name, place_titles
from analysis.tables.table import (
    NOTHING,
    PLUS_MINUS,
    Table,
    accuracy_text,
    condition_text,
    estimate_text,
    p_text,
    signed,
)
from l2t_ray.statistics.effect import WELCH
from l2t_ray.statistics.means import Mean


def tuned_table(tunings: Sequence[Tuning], *, what: str = "Mean test accuracy in %") -> Table | None:
    """Each method at its own and at its best settings, a row per method and condition; None if nothing was tuned."""
    if not tunings:
        return None
    rows = []
    rules = []
    place = None
    for item in sorted(tunings, key=lambda item: (item.own.place, item.own.condition.variant)):
        if place not in {None, item.own.condition}:
            rules.append(len(rows))
        place = item.own.condition
        compared = item.comparison
        chosen = [f"{name.rpartition('.')[2]} {_number(tuned)}" for name, (_, tuned) in item.settings.items()]
        tests = (NOTHING,) * 4
        if compared is not None:
            a12 = f"{compared.a12.value:.2f}" if compared.has_values else NOTHING
            tests = (_difference(compared), p_text(compared.test.p), p_text(compared.p_holm), a12)
        rows.append((
            *condition_text(item.own.condition), arm_name(item.own.method), accuracy_text(item.own),
            accuracy_text(item.tuned) if compared is not None else "the same", *tests,
            ", ".join(chosen) or NOTHING,
        ))  # fmt: skip
    first = tunings[0].own.condition
    titles = (*place_titles(first), first.factors.method)
    header = (*titles, "own settings", "best settings", "difference", "p (Mann-Whitney)", "p (Holm)", "A12",
              "best settings chosen")  # fmt: skip
    held_out = (
        "A search chose the best settings on held-out training images and with other seeds; every number here is of "
        "the test set and of seeds that the search did not use."
        if first.factors == TRANSFER
        else "A search chose the best settings with other seeds; every number here is of seeds that it did not use."
    )
    notes = (
        f"{what} {PLUS_MINUS} 95 % half-width; the difference is best {MINUS} own, with its 95 % interval ({WELCH}).",
        held_out,
        "p is two-sided, of one test; Holm's over all rows. The same: the search found no better settings.",
    )
    return Table(
        "tuned",
        "Each method at its own settings and at its best ones",
        header,
        tuple(rows),
        notes,
        tuple(rules),
        len(titles),
    )


def gains_table(gains: Sequence[Gain]) -> Table | None:
    """What transfer adds to scratch before and after tuning, a row for each method and condition; None without any."""
    if not gains:
        return None
    rows = [
        (
            *condition_text(item.own.condition), arm_name(item.own.a.method),
            _difference(item.own), p_text(item.own.p_holm), _difference(item.tuned), p_text(item.tuned.p_holm),
            _change(item.change), p_text(item.test.p), p_text(item.p_holm),
        )
        for item in gains
    ]  # fmt: skip
    header = ("data set", "images a class", "method", "gain at own settings", "p (Holm)", "gain at best settings",
              "p (Holm)", "change of the gain", "p (Wilcoxon)", "p (Holm)")  # fmt: skip
    notes = [
        f"The gain is method {MINUS} scratch, means in points with 95 % intervals ({WELCH}), Mann-Whitney's p by Holm "
        "over the column.",
        "The change is over seeds that all four cells have, paired by seed, with its t interval; Wilcoxon's p is of "
        "one test, Holm's beside it over all changes of this table.",
    ]
    if any((item.own.difference or 0) > 0 for item in gains):
        notes.append(
            "Where a method is above scratch at their own settings, a negative change means that part of that gain "
            "came from scratch's unfit settings."
        )
    title = "What transfer adds to scratch, before and after tuning"
    return Table("gains", title, header, tuple(rows), tuple(notes), (), 3)


def reading(gains: Sequence[Gain]) -> list[str]:
    """A sentence for each gain; a change that is not significant is called not settled."""
    sentences = []
    for item in gains:
        own, tuned = item.own.difference, item.tuned.difference
        if own is None or tuned is None or item.change.mean is None:
            continue
        settled = item.p_holm is not None and item.p_holm < item.own.alpha
        sign, mean = "rises" if item.rises else "falls", "rises" if item.change.mean > 0 else "falls"
        by = f"{abs(item.change.mean):.2f}"
        change = f"the difference {sign} by {by}"
        if sign != mean:
            change = f"the difference {sign} by the ranks of its changes, although its mean {mean} by {by}"
        verdict = change if settled else "whether the difference changes is not settled"
        sentences.append(
            f"{item.own.condition}: {arm_name(item.own.a.method)} is {signed(own)} points from scratch at their own "
            f"settings and {signed(tuned)} at their best ones; {verdict} (Wilcoxon p "
            f"{p_text(item.test.p)}, by Holm over all changes {p_text(item.p_holm)})."
        )
    return sentences


def _difference(item: Comparison) -> str:
    return estimate_text(item.mean_difference, sign=True, digits=item.digits) if item.has_values else NOTHING


def _change(mean: Mean) -> str:
    if mean.mean is None or mean.half_width is None:
        return NOTHING
    return f"{signed(mean.mean)} [{signed(mean.mean - mean.half_width)}, {signed(mean.mean + mean.half_width)}]"


def _number(text: str) -> str:
    try:
        return f"{float(text):.3g}"
    except ValueError:
        return text
