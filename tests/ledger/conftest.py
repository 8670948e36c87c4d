"""A ledger that every test of a module adds to, each under a sweep of its own."""

import pytest

from l2t_ray import registry
from l2t_ray.ledger.ledger import Ledger
from tests.support.records import Described


@pytest.fixture(autouse=True)
def _described(monkeypatch):
    """The method of `records.make_run`."""
    monkeypatch.setitem(registry.METHODS, "described", Described())


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory):
    """MLflow's migrations take seconds: once a module."""
    folder = tmp_path_factory.mktemp("it's a folder")
    Ledger("first", folder=folder).open()
    return folder


@pytest.fixture
def ledger(ledgers, request):
    name = request.node.name[-60:].replace("[", "-").replace("]", "")
    made = Ledger(name, folder=ledgers)
    made.open()
    return made
