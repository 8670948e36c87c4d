"""Tables of methods at their own settings and at their best ones, and of what transfer adds to scratch under either."""

from collections.abc import Sequence

from analysis.results.comparison import Comparison
from analysis.results.tuned import Gain, Tuning
from analysis.tables.table import (
    MINUS,
    NOTHING,
    PLUS_MINUS,
    Table,
    accuracy_text,
    arm_name,
    condition_text,
    estimate_text,
    p_text,
    signed,
)
from l2t_ray.statistics.effect import mean_intervals
from l2t_ray.statistics.means import Mean


def tuned_table(tunings: Sequence[Tuning], *, what: str = "Mean test accuracy in %") -> Table | None:
    """Every method at both settings.

    Args:
        tunings: of all methods and conditions.
        what: the number in the cells.

    Returns:
        A row a method and condition; None where nothing was tuned.
    """
    if not tunings:
        return None
    rows = []
    rules = []
    place = None
    for item in sorted(tunings, key=lambda item: (item.own.place, item.own.condition.variant)):
        if place not in {None, item.own.condition}:
            rules.append(len(rows))
        place = item.own.condition
        found = item.comparison
        tests = (NOTHING,) * 4
        if found is not None:
            tests = (_difference(found), p_text(found.test.p), p_text(found.p_holm), _a12(found))
        rows.append((
            *condition_text(item.own.condition), arm_name(item.own.method), accuracy_text(item.own),
            accuracy_text(item.tuned) if found is not None else "the same", *tests,
            ", ".join(f"{_short(name)} {_number(tuned)}" for name, (_, tuned) in item.settings.items()) or NOTHING,
        ))  # fmt: skip
    header = ("data set", "images a class", "method", "own settings", "best settings", "difference", "p (Mann-Whitney)",
              "p (Holm)", "A12", "best settings chosen")  # fmt: skip
    how = _intervals([item.comparison for item in tunings if item.comparison is not None])
    notes = (
        f"{what} {PLUS_MINUS} 95 % half-width; the difference is best {MINUS} own, with its 95 % interval ({how}).",
        "The best settings were chosen on training images held out, with other seeds; every number here is of the test "
        "set and of seeds that chose nothing.",
        "p is two-sided, of one test; Holm's over all rows. The same: no settings tried were better than its own.",
    )
    return Table(
        "tuned", "Each method at its own settings and at its best ones", header, tuple(rows), notes, tuple(rules), 3
    )


def gains_table(gains: Sequence[Gain]) -> Table | None:
    """What transfer adds to scratch, at their own settings and at their best ones.

    Args:
        gains: of all methods and conditions.

    Returns:
        A row a method and condition; None without any.
    """
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
    how = _intervals([each for item in gains for each in (item.own, item.tuned)])
    notes = [
        f"The gain is method {MINUS} scratch, means in points with 95 % intervals ({how}), Mann-Whitney's p by Holm "
        "over the column.",
        "The change is over seeds that all four cells have, paired by seed, with its t interval; Wilcoxon's p is of "
        "one test, Holm's beside it over all changes of this table.",
    ]
    if any((item.own.difference or 0) > 0 for item in gains):
        notes.append(
            "Where a method is above scratch at their own settings, a negative change says that part of that gain was "
            "scratch's unfit settings."
        )
    title = "What transfer adds to scratch, before and after tuning"
    return Table("gains", title, header, tuple(rows), tuple(notes), (), 3)


def reading(gains: Sequence[Gain]) -> list[str]:
    """What the gains say, a sentence a condition and method.

    Args:
        gains: of all methods and conditions.

    Returns:
        Sentences without judgement of what is not significant.
    """
    found = []
    for item in gains:
        own, tuned = item.own.difference, item.tuned.difference
        if own is None or tuned is None or item.change.mean is None:
            continue
        settled = item.p_holm is not None and item.p_holm < item.own.alpha
        sign = "falls" if item.change.mean < 0 else "rises"
        change = f"the difference {sign} by {abs(item.change.mean):.2f}"
        verdict = change if settled else "whether the difference changes is not settled"
        found.append(
            f"{item.own.condition}: {arm_name(item.own.a.method)} is {signed(own)} points from scratch at their own "
            f"settings and {signed(tuned)} at their best ones; {verdict} (Wilcoxon p "
            f"{p_text(item.test.p)}, by Holm over all changes {p_text(item.p_holm)})."
        )
    return found


def _intervals(items: Sequence[Comparison]) -> str:
    return mean_intervals(item.mean_difference for item in items if item.has_values)


def _difference(item: Comparison) -> str:
    return estimate_text(item.mean_difference, sign=True) if item.has_values else NOTHING


def _a12(item: Comparison) -> str:
    return f"{item.a12.value:.2f}" if item.has_values else NOTHING


def _change(mean: Mean) -> str:
    if mean.mean is None or mean.half_width is None:
        return NOTHING
    return f"{signed(mean.mean)} [{signed(mean.mean - mean.half_width)}, {signed(mean.mean + mean.half_width)}]"


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _number(text: str) -> str:
    try:
        return f"{float(text):.3g}"
    except ValueError:
        return text
