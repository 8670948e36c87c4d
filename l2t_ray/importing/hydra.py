"""Reads the folders of a Hydra multirun: each job's settings, and the results that its program wrote there."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from l2t_ray.errors import InputError
from l2t_ray.importing.rows import Row, Unquoted, flat, read_text, value_of

CONFIG = Path(".hydra", "config.yaml")
TIMESTAMP = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    """Reads settings as Hydra does: what stands in quotes is text, `1e-1` is a number, a date is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  PyYAML's own form
        letter: [(tag, form) for tag, form in found if tag != TIMESTAMP]
        for letter, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    return Unquoted(text) if node.style is None else text


_Loader.add_constructor("tag:yaml.org,2002:str", _text)


def read_multirun(folder: Path, result: str) -> list[Row]:
    """Reads every job below a folder.

    Args:
        folder: of one multirun, or of several.
        result: the file in each job's folder with its results: a JSON object, or a CSV whose last values count.

    Returns:
        A row a job; a job without results is a failed run.

    Raises:
        InputError: if there is no job, or a file cannot be read.
    """
    configs = sorted(folder.rglob(str(CONFIG)), key=_order)
    if not configs:
        raise InputError(f"{folder}: must hold the folders of Hydra's jobs (N/{CONFIG}), got none; name the multirun")
    rows, problems = [], list[str]()
    for config in configs:
        job = config.parent.parent
        try:
            settings = _Loader(read_text(config)).get_single_data() or {}
            if not isinstance(settings, dict):
                raise InputError(f"{config}: must be a map of settings, got {settings!r:.40}")
            file = job / result
            results = _results(file) if file.is_file() else None
        except (InputError, yaml.YAMLError) as error:
            problems += error.problems if isinstance(error, InputError) else [f"{config}: must be YAML, got {error}"]
            continue
        state = "finished" if results is not None else "failed"
        rows.append(Row(str(job), flat(settings), state, job.name, results or {}))
    if problems:
        raise InputError(problems)
    if all(row.state == "failed" for row in rows):
        raise InputError(f"{folder}: a job must hold {result}, got none in {len(rows)}; name the file: --result FILE")
    return rows


def _order(config: Path) -> tuple[list[tuple[int, str]], str]:
    parts = config.parent.parent.parts
    return [(int(part) if part.isdecimal() else -1, part) for part in parts], str(config)


def _results(file: Path) -> Mapping[str, Any]:
    text = read_text(file)
    if file.suffix == ".csv":
        found: dict[str, Any] = {}
        for row in csv.DictReader(io.StringIO(text, newline="")):
            found |= {name: value for name, text in row.items() if name and (value := value_of(text or "")) is not None}
        return found
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"{file}: must be a JSON object of results, got {error}; or name another --result") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: must be a JSON object of results, got {text[:40]!r}")
    return flat(content)
