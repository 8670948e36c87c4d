"""Every setting of a sweep file and of a source network's file, as the Markdown tables of docs/settings.md.

`python -m l2t_ray.settings_page` prints them.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from l2t_ray.config import Run
from l2t_ray.execution import Execution, SweepFile
from l2t_ray.pretraining import Pretraining
from l2t_ray.schema import DESIGN
from l2t_ray.search_block import SearchBlock

HEAD = "| setting | default | values | meaning |\n| --- | --- | --- | --- |"
PARTS = {"design", "search", "execution"}  # of the file, each with a table of its own
GIVEN = "must be given"
Row = tuple[str, str, str, str]
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_KINDS = {"integer": "a whole number", "number": "a number", "string": "a text", "boolean": "`true`, `false`"}


def tables() -> str:
    """All tables.

    Returns:
        Markdown; each with a heading.
    """
    top = [row for row in _rows(SweepFile) if row[0].partition(".")[0] not in PARTS]
    search = [("space", GIVEN, "a map", "settings, each with an interval or a list of values")]
    search += [("seeds", GIVEN, "as `seed`", "of every trial; others than the grid's"), *_rows(SearchBlock)]
    parts = {
        "The sweep file": top,
        "`run:` and the blocks of `grid:`": [*_rows(Run)],
        "`execution:`": [*_rows(Execution)],
        "`design:`": [_row(name, leaf) for name, leaf in DESIGN["properties"].items()],
        "`search:`": search,
        "A source network's file": [*_rows(Pretraining)],
    }
    return "\n".join(f"## {name}\n{HEAD}\n{_text(rows)}" for name, rows in parts.items())


def _rows(model: type[BaseModel], prefix: str = "") -> Iterator[Row]:
    leaves = model.model_json_schema()["properties"]
    for attribute, field in model.model_fields.items():
        kind, name = field.annotation, field.alias or attribute
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _rows(kind, f"{prefix}{name}.")
        elif leaves[name].get("type") != "null":  # what a subclass takes away
            leaf = {**leaves[name], **({"default": GIVEN} if field.is_required() else {})}
            yield _row(prefix + name, leaf)


def _row(name: str, leaf: Mapping[str, Any]) -> Row:
    default = leaf.get("default")
    told = "" if default in (None, []) else default if default == GIVEN else f"`{json.dumps(default)}`"
    return name, told, _values(leaf), leaf.get("description", "")


def _values(leaf: Mapping[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "anyOf" in leaf:
        return " or ".join(_values(part) for part in leaf["anyOf"] if part.get("type") != "null")
    if "enum" in leaf or "const" in leaf:
        return ", ".join(f"`{value}`" for value in leaf.get("enum", [leaf.get("const")]))
    if leaf["type"] in {"array", "object"}:
        return "a list" if leaf["type"] == "array" else "a map"
    bounds = [f"{sign} {leaf[name]:.10g}" for name, sign in _BOUNDS.items() if name in leaf]
    return " ".join([_KINDS[leaf["type"]], " and ".join(bounds)]).strip()


def _text(rows: list[Row]) -> str:
    lines = (f"| `{name}` | {default} | {values} | {meaning} |\n" for name, default, values, meaning in rows)
    return "".join(line.replace("|  |", "| |").replace("|  |", "| |") for line in lines)


def main() -> int:
    """Prints the tables.

    Returns:
        The exit code.
    """
    print(tables(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
