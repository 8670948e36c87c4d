"""Runs and where they are trained, as they travel to a worker."""

import pytest

from l2t_ray.errors import InputError
from l2t_ray.launch.worker.job import Work, decode, encode
from tests.support.queues import WORK, Described, make_run


def test_runs_and_work_travel_unchanged():
    runs = [make_run(3, transfer={"pairs": ((0, 1), (2, 4))}, training={"lr": 0.1 + 0.2}), make_run(4)]
    assert decode(encode(runs)) == runs
    assert [run.key for run in decode(encode(runs))] == [run.key for run in runs]
    assert Work.from_json(WORK.to_json()) == WORK


def test_a_worker_with_other_code_is_noticed(monkeypatch):
    text = encode([make_run(0)])
    monkeypatch.setattr(Described, "uses", frozenset())
    with pytest.raises(InputError, match="the worker's key must be the driver's"):
        decode(text)
