"""Each import has a working folder of its own, with an empty ledger."""

import shutil

import pytest


@pytest.fixture(autouse=True)
def _folder(tmp_path, template, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(template, tmp_path)
