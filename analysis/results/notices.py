"""What a reader of the numbers should know of the runs behind them: repeated ones, mixed ones, settings cut short."""

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from analysis.results.wanted import Wanted
from l2t_ray.errors import InputError, count
from l2t_ray.ledger.entries import Details, Entry
from l2t_ray.ledger.limits import CUT, PARAM_CHARACTERS, WHOLE
from l2t_ray.ledger.reader import Reader

PROVENANCE = {  # tags of where a run comes from, in words
    "git": "code (l2t.git)",
    "versions": "library versions (l2t.versions)",
    "data_sha": "data (l2t.data_sha)",
}


def restore_texts(details: dict[str, Details], entries: Iterable[Entry], reader: Reader) -> list[str]:
    """Puts settings and tags that MLflow cut back to their whole length.

    Args:
        details: by run id; changed in place. A setting that stays cut is removed, because half of it would mislead.
        entries: of these runs.
        reader: of the ledger.

    Returns:
        A sentence for each setting that stays cut.
    """
    lost: dict[str, int] = defaultdict(int)
    for entry in entries:
        detail = details[entry.run_id]
        if any(text.endswith(CUT) for text in (*detail.params.values(), *detail.tags.values())):
            with contextlib.suppress(InputError, ValueError):  # unreachable or damaged: reported below
                whole = json.loads(reader.artifact(entry, WHOLE) or "{}")
                detail.params.update(whole.get("params", {}))
                detail.tags.update(whole.get("tags", {}))
        for name, text in [*detail.params.items()]:
            if text.endswith(CUT) or len(text) == PARAM_CHARACTERS:  # versions before 0.2 kept no whole text
                del detail.params[name]
                lost[name] += 1
    return [
        f"{name} is longer than the {PARAM_CHARACTERS:,} characters that MLflow keeps, and {count(n, 'run')} "
        f"{'has' if n == 1 else 'have'} no {WHOLE} with all of it; tables that need it leave them out"
        for name, n in lost.items()
    ]


def duplicates(run: Wanted, finished: Sequence[Entry], details: dict[str, Details], metric: str) -> str:
    """A sentence on a wanted run that has finished several times."""
    values = [details[entry.run_id].metrics.get(metric) for entry in finished]
    same = "all with the same result" if len(set(values)) == 1 else f"with results {', '.join(map(str, values))}"
    return f"{run.cell} seed {run.seed} ({run.key}) has finished {len(finished)} times, {same}; the oldest counts"


def mixed(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yields a sentence for each cell whose runs come from different code, libraries or data."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        for name in PROVENANCE:
            counts[row["cell"], name][row[name]] += 1
    for (cell, name), values in counts.items():
        if len(values) > 1:
            parts = "; ".join(
                f"{_shown(name, value, values)}: {count(n, 'run')}" for value, n in sorted(values.items())
            )
            yield f"{cell}: runs come from different {PROVENANCE[name]}: {parts}"


def rounded_unlike(rows: Sequence[dict[str, Any]], details: Mapping[str, Details]) -> Iterator[str]:
    """Yields a line on cells whose runs had unlike numbers of CPU threads, and one on devices; old runs tell none."""
    for name, how in (("threads", "with different numbers of CPU threads"), ("device", "on different devices")):
        found: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            if value := details[row["run_id"]].tags.get(name):
                found[row["cell"]].add(value)
        unlike = [values for values in found.values() if len(values) > 1]
        if unlike:
            values = ", ".join(sorted({*chain.from_iterable(unlike)}, key=lambda text: (len(text), text)))
            yield f"the runs of {count(len(unlike), 'cell')} were trained {how} ({values}): their last bits differ"


def _shown(name: str, value: str, values: Iterable[str]) -> str:
    if not value:
        return "unknown"
    if name != "versions":
        return value[:12] + ("-dirty" if value.endswith("-dirty") else "")
    try:  # show only the versions that differ
        tables = {text: {key: str(found) for key, found in json.loads(text).items()} for text in values if text}
        differing = {
            key for table in tables.values() for key in table if len({t.get(key) for t in tables.values()}) > 1
        }
        return ", ".join(f"{key} {tables[value].get(key)}" for key in sorted(differing))
    except (ValueError, AttributeError):
        return value
