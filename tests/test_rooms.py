"""Imports point down from room to room and never in a circle; each heavy library stays in its rooms."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.places import ROOT

DESIGN = (ROOT / "docs" / "design.md").read_text()
ORDER = re.findall(r"^\| `([\w./]+)` \|", DESIGN.partition("## Rooms")[2].partition("\n## ")[0], re.MULTILINE)
OWN = ("l2t", "l2t_ray", "analysis")  # their __init__ hands on names of the rooms below
LIBRARIES = {  # the rooms that may import it, on any line
    "ray": {"launch/cluster", "launch/worker"},  # the worker fetches files through Ray's object store
    "mlflow": {"ledger"},
    "optuna": {"search"},
    "timm": {"hubs"},
    "transformers": {"hubs"},
    "huggingface_hub": {"data", "hubs"},
    "torch": {
        "hubs",
        "api",
        "data",
        "models",
        "methods",
        "training",
        "launch",
        "launch/placement",
        "launch/worker",
        "launch/cluster",
    },
}


@cache
def modules() -> dict[str, Path]:
    found = {}
    for top in OWN:
        for path in (ROOT / top).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imported(path: Path) -> set[str]:
    """Modules that a file names anywhere, also inside functions and for types alone."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in modules() else node.module for name in whole}
    return names


def room(module: str) -> str:
    """The innermost room of the document that holds a module; a module at the root is its own."""
    place = module.replace(".", "/")
    held = [name for name in ORDER if place == name or place.startswith(f"{name}/")]
    assert held, f"{module} has no place in docs/design.md"
    return max(held, key=len)


@pytest.mark.parametrize("module", sorted({*modules()} - {*OWN}))
def test_imports_point_down_from_room_to_room(module):
    above = ORDER[: ORDER.index(room(module))]
    assert not [name for name in imported(modules()[module]) & modules().keys() - {*OWN} if room(name) in above]


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: imported(path) & modules().keys() - {name, *OWN} for name, path in modules().items()}
    TopologicalSorter({name: below for name, below in graph.items() if name not in OWN}).prepare()  # or CycleError


def test_the_packages_depend_in_one_direction():
    rooms = {top: set() for top in OWN}
    for name, path in modules().items():
        top = name.split(".")[0]
        rooms[top] |= {room(told) for told in imported(path) & modules().keys() - {*OWN} if told.split(".")[0] != top}
    assert rooms["l2t_ray"] == set()
    below = {"ledger", "statistics", "style", "files", "usage", "errors"}
    assert rooms["analysis"] <= {f"l2t_ray/{name}" for name in below}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_imported_in_its_rooms_alone(library):
    users = {name for name, path in modules().items() if library in {told.split(".")[0] for told in imported(path)}}
    assert {room(name).removeprefix("l2t_ray/") for name in users} <= LIBRARIES[library]
