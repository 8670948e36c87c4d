"""The JSON schema of a sweep file for editors, and the Markdown tables of docs/settings.md.

`python -m l2t_ray.sweepfile.schema json` prints the schema, `... markdown` the tables.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from l2t_ray import registry
from l2t_ray.config import LABEL, Execution, Run
from l2t_ray.sweepfile.search import SearchBlock
from l2t_ray.sweepfile.settings import MetricBlock, SweepFile
from l2t_ray.trainer.spec import Spec
from l2t_ray.training.source_settings import Pretraining

Schema = dict[str, Any]

SEED = {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**31}
SEED_RANGE = {
    "type": "object",
    "description": "all seeds from the first to the last",
    "properties": {"from": SEED, "to": SEED},
    "required": ["from", "to"],
    "additionalProperties": False,
}
DESIGN: Schema = {
    "type": "object",
    "description": "a group-sequential design: a cell's two methods are compared at each look, and decided cells stop",
    "properties": {
        "looks": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 5},
                  "default": [10, 20, 30],
                  "description": "seeds a method at each look, rising; the last is all of them"},
        "alpha": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "default": 0.05,
                  "description": "two-sided error of a cell, over all looks"},
        "futility": {"type": "number", "minimum": 0, "exclusiveMaximum": 1, "default": 0.1,
                     "description": "stop where the predictive probability of a significant end is below"},
        "compare": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "string"},
                    "default": ["l2t_www", "l2t_ww"], "description": "the two methods that it is about"},
    },
    "additionalProperties": False,
}  # fmt: skip
DIMENSION = {
    "description": "an interval, or a list of values",
    "anyOf": [
        {"type": "array", "minItems": 2},
        {
            "type": "object",
            "properties": {"low": {"type": "number"}, "high": {"type": "number"}, "log": {"type": "boolean"},
                           "step": {"type": "number", "exclusiveMinimum": 0}},
            "required": ["low", "high"],
            "additionalProperties": False,
        },
    ],
}  # fmt: skip
HEAD = "| setting | default | values | meaning |\n| --- | --- | --- | --- |"
METRIC = "with `trainer:`: its result that counts, and which end is better"
PARTS = {"design", "search", "execution"}  # parts of the file with a table of their own
GIVEN = "must be given"
Row = tuple[str, str, str, str]
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_KINDS = {"integer": "a whole number", "number": "a number", "string": "a text", "boolean": "`true`, `false`"}


def sweep_schema() -> Schema:
    """Returns the JSON schema (draft 2020-12) of a sweep file, with the names of the registered methods."""
    run = Run.model_json_schema()
    definitions: dict[str, Schema] = run.pop("$defs")
    for section in definitions.values():
        section.pop("required", None)  # `run:` may give it
        section["properties"] = {name: _or_list(leaf) for name, leaf in section["properties"].items()}
    settings = {
        name: {"$ref": leaf["$ref"]} if "$ref" in leaf else _or_list(leaf) for name, leaf in run["properties"].items()
    }
    settings["method"] = _or_list({"enum": sorted(registry.METHODS)})
    settings["seed"] = {"anyOf": [SEED, SEED_RANGE, {"type": "array", "minItems": 1, "items": SEED}]}
    settings["settings"] = {
        "type": "object",
        "description": "with `trainer:`: its settings; a list makes a cell of each",
    }
    settings["options"] = {
        "type": "object",
        "description": run["properties"]["options"]["description"],
        "additionalProperties": _or_list({"type": ["boolean", "number", "string"]}),
    }
    variant = {"type": "string", "pattern": LABEL, "description": "the last part of the cells' names"}
    schema = SweepFile.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$defs"] |= definitions
    schema["$defs"]["Settings"] = {"type": "object", "properties": settings, "additionalProperties": False}
    schema["$defs"]["Block"] = {
        "type": "object",
        "properties": {**settings, "variant": variant},
        "additionalProperties": False,
    }
    schema["properties"]["run"] = {"$ref": "#/$defs/Settings", "description": "settings of every block"}
    schema["properties"]["design"] = DESIGN
    spec = Spec.model_json_schema()
    for name in ("metric", "digests"):
        spec["properties"].pop(name)
    schema["properties"]["trainer"] = {**schema["properties"]["trainer"], "anyOf": [{"type": "string"}, spec]}
    schema["properties"]["metric"] = {**MetricBlock.model_json_schema(), "description": METRIC}
    schema["properties"]["search"] = _search()
    schema["properties"]["grid"]["items"] = {"$ref": "#/$defs/Block"}
    return schema


def _search() -> Schema:
    search = SearchBlock.model_json_schema()
    seeds = {"anyOf": [SEED, SEED_RANGE, {"type": "array", "minItems": 1, "items": {"anyOf": [SEED, SEED_RANGE]}}]}
    search["description"] = "which settings are chosen on held-out training images, one study for each cell of the grid"
    search["properties"]["space"] = {"type": "object", "minProperties": 1, "additionalProperties": DIMENSION}
    search["properties"]["seeds"] = {**seeds, "description": "of every trial; others than the grid's"}
    search["required"] = ["space", "seeds", *search["required"]]
    return search


def _or_list(leaf: Schema) -> Schema:
    about: Schema = {name: leaf[name] for name in ("description", "default", "title") if name in leaf}
    value = {name: rest for name, rest in leaf.items() if name not in about}
    return {**about, "anyOf": [value, {"type": "array", "minItems": 1, "items": value}]}


def tables() -> str:
    """Returns all tables as Markdown, each with a heading."""
    top = [row for row in _rows(SweepFile) if row[0].partition(".")[0] not in PARTS]
    search = [("space", GIVEN, "a map", "settings, each with an interval or a list of values")]
    search += [("seeds", GIVEN, "as `seed`", "of every trial; others than the grid's"), *_rows(SearchBlock)]
    parts = {
        "The sweep file": top,
        "`run:` and the blocks of `grid:`": [*_rows(Run)],
        "`trainer:`": [row for row in _rows(Spec) if row[0] not in {"metric", "digests"}],
        "`metric:`": [*_rows(MetricBlock)],
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
        elif leaves[name].get("type") != "null":  # a subclass removes a setting by the type null
            leaf = {**leaves[name], **({"default": GIVEN} if field.is_required() else {})}
            yield _row(prefix + name, leaf)


def _row(name: str, leaf: Mapping[str, Any]) -> Row:
    default = leaf.get("default")
    shown = "" if default in (None, []) else default if default == GIVEN else f"`{json.dumps(default)}`"
    return name, shown, _values(leaf), leaf.get("description", "")


def _values(leaf: Mapping[str, Any]) -> str:
    """Returns in a few words what a JSON schema admits."""
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


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a sweep file's schema (`json`) or the tables of docs/settings.md (`markdown`); returns the exit code."""
    asked = [*(sys.argv[1:] if argv is None else argv)]
    registry.load()
    if asked == ["json"]:
        print(json.dumps(sweep_schema(), indent=2))
    elif asked == ["markdown"]:
        print(tables(), end="")
    else:
        print("usage: python -m l2t_ray.sweepfile.schema json|markdown", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
