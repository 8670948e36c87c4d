"""Imports point down, and heavy libraries stay where the design puts them."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = (
    *("small_maps", "operators", "passes", "scaled", "chain", "matching", "meta", "optim", "hypergrad"),
    *("models", "learner", "training", "methods"),
)
LAYERS = (ROOT / "docs" / "design.md").read_text().partition("## Layers")[2].partition("\n## ")[0]
ORDER = re.findall(r"`([a-z0-9_]+)`", "".join(re.findall(r"^(?:- \*\*|  ).*\n", LAYERS, re.MULTILINE)))  # from the top
UPWARD = {
    (
        "config",
        "schema",
    ): "the command `python -m l2t_ray.sweepfile.schema json` is older than the module that answers it",
    ("search_summary", "search"): "for types alone: it is told a search, and a search prints it",
}


def imported(path: Path) -> set[str]:
    """Modules named anywhere in a file, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(name: str) -> list[Path]:
    """A module's file, or those of a package."""
    path = ROOT / "l2t_ray" / name
    return sorted(path.glob("*.py")) or [path.with_suffix(".py")]


def top(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("name", CORE)
def test_the_core_knows_neither_ray_nor_mlflow(name):
    for path in files(name):
        assert not top(path) & {"ray", "mlflow", "optuna", "pandas", "analysis"}, path


@pytest.mark.parametrize("name", ["prober", "offline"])
def test_what_measures_a_device_or_trains_alone_needs_no_ray(name):
    wanted, seen = [name], set()
    while wanted:
        name = wanted.pop()
        seen.add(name)
        path = ROOT / "l2t_ray" / f"{name}.py"
        if path.exists():
            tree = ast.parse(path.read_text())
            heads = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
            assert not {getattr(node, "module", None) or node.names[0].name for node in heads} & {"ray", "mlflow"}, name
            found = {name.split(".")[1] for name in imported(path) if name.startswith("l2t_ray.")}
            wanted += found - seen
    assert {"device", "inputs", "training"} <= seen


def test_mlflow_is_imported_by_the_ledger_alone():
    users = {p.stem for p in (ROOT / "l2t_ray").rglob("*.py") if "mlflow" in top(p)}
    assert users == {"tracking", "mlflow_client"}


def test_analysis_needs_neither_torch_nor_ray():
    for path in (ROOT / "analysis").rglob("*.py"):
        assert not top(path) & {"torch", "ray", "torchvision", "optuna"}, path


def test_every_module_has_its_place_in_the_document():
    found = {path.relative_to(ROOT / "l2t_ray").parts[0].removesuffix(".py") for path in ROOT.glob("l2t_ray/**/*.py")}
    assert sorted(ORDER) == sorted(found - {"__init__"})


@pytest.mark.parametrize("name", ORDER)
def test_imports_point_down(name):
    """Also those inside functions, and those for types alone."""
    upward = {other for below, other in UPWARD if below == name}
    above = {*ORDER[: ORDER.index(name)]} - upward
    found = {told.split(".")[1] for path in files(name) for told in imported(path) if told.startswith("l2t_ray.")}
    assert not found & above
    assert found >= upward  # an exception that is none any more goes
