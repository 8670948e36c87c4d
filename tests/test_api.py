"""The public API: small, documented, and imported when it is first used."""

import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch

import analysis
import l2t_ray
from l2t_ray.models import build, source_state
from tests.support.ledgers import Logged, fill
from tests.support.places import ROOT

PAGE = (ROOT / "docs" / "api.md").read_text()


@pytest.mark.parametrize("package", [l2t_ray, analysis])
def test_every_public_name_exists_and_is_documented(package):
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert re.search(rf"`[^`]*\b{name}\b", PAGE), name
    with pytest.raises(AttributeError, match="nothing"):
        _ = package.nothing


def test_importing_the_packages_imports_no_library():
    heavy = "('torch', 'pydantic', 'numpy', 'pandas')"
    code = f"import sys, l2t_ray, analysis; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_pages_examples_run(tmp_path, monkeypatch, capsys):
    """With the quick start's files, and a ledger that one of its runs is written to."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "sweeps", "sweeps")
    network = build("resnet20", 0.5, 10)
    Path("weights").mkdir()
    torch.save(source_state(network), "weights/quickstart_digits.pt")
    with closing(sqlite3.connect("mlflow.db")) as connection:
        connection.executescript((ROOT / "tests" / "fixtures" / "ledger_schema.sql").read_text())
    fill(
        tmp_path / "mlflow.db",
        "quickstart",
        [Logged(method=m, seed=seed) for m in ("ufm", "scratch") for seed in range(3)],
    )
    training, reading = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(training, {})
    finished = capsys.readouterr().out.splitlines()
    assert len(finished) == 2
    assert all(" finished (" in line for line in finished)
    exec(reading, {})
    assert "mean" in capsys.readouterr().out
