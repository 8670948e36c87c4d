"""The JSON schema of a sweep file, for editors: `run:` and the blocks of `grid:` take a value or a list of values."""

from typing import Any

from l2t_ray import registry
from l2t_ray.config import LABEL, Run
from l2t_ray.execution import SweepFile
from l2t_ray.search_block import SearchBlock

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


def sweep_schema() -> Schema:
    """The schema of a sweep file, with the names of the methods that are registered.

    Returns:
        A JSON schema (draft 2020-12).
    """
    run = Run.model_json_schema()
    definitions: dict[str, Schema] = run.pop("$defs")
    for section in definitions.values():
        section.pop("required", None)  # the rest may stand in `run:`
        section["properties"] = {name: _or_list(leaf) for name, leaf in section["properties"].items()}
    settings = {
        name: {"$ref": leaf["$ref"]} if "$ref" in leaf else _or_list(leaf) for name, leaf in run["properties"].items()
    }
    settings["method"] = _or_list({"enum": sorted(registry.METHODS)})
    settings["seed"] = {"anyOf": [SEED, SEED_RANGE, {"type": "array", "minItems": 1, "items": SEED}]}
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
