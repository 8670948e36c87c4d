"""The notebook docs/tutorial.ipynb, executed cell by cell, on real Ray with a real ledger."""

import ast
import json
import shutil

import pytest
import torch

from tests.support.launches import OF_RAY
from tests.support.marks import LONG
from tests.support.places import ROOT

pytestmark = [*OF_RAY, LONG]
NOTEBOOK = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text())


def shown(code, names):
    """Executes a cell and returns the value of its last line, as a notebook shows it."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None


def test_the_tutorial_runs(folder, template, ray_cluster, monkeypatch, capsys, request):
    shutil.copy(template, folder / "mlflow.db")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the launch's workers, for equal bits; another test has imported torch before
    request.addfinalizer(lambda: torch.set_num_threads(n_threads))
    names = {}
    codes = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    values = [shown(code, names) for code in codes]
    out, err = capsys.readouterr()
    assert "10 of 10 runs finished" in out
    assert "runs ended" not in out  # progress is on stderr
    assert "10 of 10 runs ended" in err
    table, figure = values[-3:-1]
    assert table["n ufm"].tolist() == table["n scratch"].tolist() == [5]
    assert figure._repr_svg_().lstrip().startswith("<?xml")
    (run,) = {names["run"].key} & {*names["table"]["key"]}
    kept = names["table"].set_index("key").loc[run, "test_accuracy_percent"]
    assert names["outcome"].metrics["test_accuracy_percent"][-1][1] == pytest.approx(kept)


def test_the_notebook_is_committed_without_outputs():
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
