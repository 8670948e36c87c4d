"""Reads W&B's runs as JSON: settings and results apart."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from l2t_ray.errors import InputError
from l2t_ray.importing.rows import Row, flat, is_wandbs, read_text

SUFFIXES = (".json", ".jsonl", ".ndjson")
SUMMARIES = ("summary", "summary_metrics", "summaryMetrics")
PARTS = frozenset({"config", "state", *SUMMARIES})


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
        chosen, results = flat(settings), flat(summary)
        spare = {name: value for name, value in item.items() if name not in PARTS and isinstance(value, str | int)}
        spare |= {name: value for name, value in {**results, **chosen}.items() if is_wandbs(name)}
        chosen, results = (
            {name: value for name, value in part.items() if not is_wandbs(name)} for part in (chosen, results)
        )
        state, run = str(item.get("state", "finished")).lower(), str(item.get("name", ""))
        rows.append(Row(place, chosen, state, run, results, spare))
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
        for number, line in enumerate(text.split("\n"), start=1):
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
