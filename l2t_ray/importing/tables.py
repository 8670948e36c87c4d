"""Reads a CSV table of runs, and W&B's exports as CSV and JSON."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from l2t_ray.errors import InputError
from l2t_ray.importing.rows import Row, flat, read_text, value_of

# what W&B's table has beside settings and results
BOOKKEEPING = frozenset({
    *("Name", "ID", "State", "Notes", "User", "Tags", "Created", "Runtime", "Updated", "Sweep", "Group", "Job Type"),
    *("Hostname", "Description", "Host", "GitHub", "Commit", "Git Commit", "Start Time", "End Time"),
    *("GPU Count", "GPU Type", "Relative Time (Process)"),
})
SUMMARIES = ("summary", "summary_metrics", "summaryMetrics")
WANDB = frozenset({"Name", "State"})  # a table with these is W&B's
JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")


def read_csv(path: Path) -> list[Row]:
    """Reads a table with a heading and a run a line.

    Args:
        path: of the CSV file: commas, semicolons or tabs between its values.

    Returns:
        Its rows.

    Raises:
        InputError: if it has no heading or no run, or a line has another number of values.
    """
    text = read_text(path)
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, problems, line = [], list[str](), 1
    try:
        heading = [name.strip() for name in next(lines, [])]
        if not any(heading) or len({*heading}) < len(heading):
            twice = next((name for name in heading if heading.count(name) > 1), "")
            raise InputError(f"{path}:1: the first line must name every column once, got {twice or 'nothing'!r}")
        line = lines.line_num + 1
        for values in lines:
            if values:
                if len(values) != len(heading):
                    problems.append(
                        f"{path}:{line}: must have {len(heading)} values, as the heading, got {len(values)}"
                    )
                else:
                    rows.append(_row(f"{path}:{line}", dict(zip(heading, values, strict=True))))
            line = lines.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}:{line}: must be a line of CSV, got {error}; quote its texts") from error
    if problems:
        raise InputError(problems)
    if not rows:
        raise InputError(f"{path}: must have a run a line below its heading, got none; export the runs again")
    return rows


def _row(place: str, texts: Mapping[str, str]) -> Row:
    is_wandb = texts.keys() >= WANDB
    left_out = BOOKKEEPING if is_wandb else frozenset()
    values = {name: value_of(text) for name, text in texts.items() if name not in left_out and not name.startswith("_")}
    if is_wandb:
        return Row(place, values, texts["State"].strip().lower(), texts["Name"])
    return Row(place, values)


def read_json(path: Path) -> list[Row]:
    """Reads runs as W&B's API gives them: a list, or a line each, of objects with `config`, `summary` and `state`.

    Args:
        path: of the file.

    Returns:
        Its rows.

    Raises:
        InputError: if it is no JSON, or an object lacks `config` or `summary`.
    """
    rows, problems = [], list[str]()
    for place, item in _objects(path):
        config, summary = _map(item, "config"), _map(item, *SUMMARIES)
        if config is None or summary is None:
            absent = "config" if config is None else "summary"
            problems.append(f"{place}: must be an object with config and summary, got no {absent}; export both")
            continue
        settings = {
            name: value["value"]
            if isinstance(value, dict) and {"value"} <= value.keys() <= {"value", "desc"}
            else value
            for name, value in config.items()
        }
        results = {name: value for name, value in flat(summary).items() if not name.startswith("_")}
        chosen = {name: value for name, value in flat(settings).items() if not name.startswith("_wandb")}
        state, run = str(item.get("state", "finished")).lower(), str(item.get("name", ""))
        rows.append(Row(place, {**results, **chosen}, state, run, frozenset(chosen)))
    if problems:
        raise InputError(problems)
    if not rows:
        raise InputError(f"{path}: must hold at least one run, got none; export the runs again")
    return rows


def _objects(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    text = read_text(path)
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("["):  # a list, and no lines of JSON
            rule = f"{path}:{error.lineno}: must be a list in JSON"
            raise InputError(f"{rule}, got {error.msg} at column {error.colno}; correct it, or export again") from error
        found = None
    if found is not None:
        items = found if isinstance(found, list) else [found]
        numbered = [(f"{path}: run {n}", item) for n, item in enumerate(items, start=1)]
    else:
        numbered = []
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                try:
                    numbered.append((f"{path}:{number}", json.loads(line)))
                except ValueError as error:
                    raise InputError(f"{path}:{number}: must be JSON, got {error}; export the runs again") from error
    for place, item in numbered:
        if not isinstance(item, dict):
            raise InputError(f"{place}: must be an object with config and summary, got {json.dumps(item)[:40]}")
        yield place, item


def _map(item: Mapping[str, Any], *names: str) -> dict[str, Any] | None:
    for name in names:
        value = item.get(name)
        if isinstance(value, str):  # W&B's GraphQL gives JSON within JSON
            try:
                value = json.loads(value)
            except ValueError:
                return None
        if isinstance(value, dict):
            return value
    return None
