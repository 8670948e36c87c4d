"""What Tune trains next."""

import copy
import json
import pickle

import pytest
from ray.tune.search import Searcher

from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.errors import InputError
from l2t_ray.queue import Queue
from l2t_ray.work import Work, decode, encode


class Described:
    name, uses, options = "described", frozenset({"transfer.pairs"}), {"depth": 2.0}


@pytest.fixture(autouse=True)
def method(monkeypatch):
    monkeypatch.setitem(registry.METHODS, "described", Described())


def make_run(seed, **settings):
    data = {"name": "digits", "samples_per_class": {"*": 10, "3": 2}}
    return Run.model_validate({"data": data, "method": "described", "seed": seed, **settings})


WORK = Work(folder="/", checkpoints="/c", data_dir="/d", methods=("my methods.py",))


class Ends(list):
    def __call__(self, run, ended, device):
        assert run.key == ended.key
        self.append((run.seed, ended.status, ended.reason))


def make_queue(packs, slots=2, retries=1):
    ends = Ends()
    return Queue(
        [[make_run(seed) for seed in pack] for pack in packs], WORK, slots=slots, retries=retries, on_end=ends
    ), ends


def outcomes(config):
    values = {"status": "finished", "reason": "", "metrics": {"a": [[1, 2.0]]}, "wall_s": 1.0, "peak_bytes": 3}
    return json.dumps([{"key": item["key"], **values, "traces": "ignored"} for item in json.loads(config["pack"])])


def seeds(config):
    return [item["run"]["seed"] for item in json.loads(config["pack"])]


def test_packs_come_in_order_and_no_more_at_once_than_there_are_slots():
    queue, ends = make_queue([[0, 1], [2], [3]])
    first, second = queue.suggest("a"), queue.suggest("b")
    assert (seeds(first), seeds(second)) == ([0, 1], [2])
    assert queue.suggest("c") is None
    queue.complete("b", outcomes(second))
    third = queue.suggest("c")
    assert seeds(third) == [3]
    assert queue.suggest("d") is None  # a failure may still bring work back
    queue.complete("a", outcomes(first))
    queue.complete("c", outcomes(third))
    assert queue.suggest("d") == Searcher.FINISHED
    assert sorted(ends) == [(seed, "finished", "") for seed in range(4)]


def test_a_run_that_raises_is_tried_again_and_then_given_up_with_its_reason():
    queue, ends = make_queue([[0]], retries=2)
    for attempt in range(3):
        assert ends == []
        assert seeds(queue.suggest(f"trial-{attempt}")) == [0]
        queue.fail(f"trial-{attempt}", f"ValueError: boom {attempt}")
    assert ends == [(0, "failed", "ValueError: boom 2")]
    assert queue.suggest("e") == Searcher.FINISHED


def test_a_hopeless_failure_is_not_tried_again():
    queue, ends = make_queue([[0]], retries=5)
    queue.suggest("a")
    queue.fail("a", "no such file", hopeless=True)
    assert ends == [(0, "failed", "no such file")]


def test_a_pack_that_fails_is_split_and_only_the_culprit_fails():
    queue, ends = make_queue([[0, 1, 2]], slots=1, retries=0)
    queue.suggest("pack")
    queue.fail("pack", "one of them", hopeless=True)
    assert ends == []
    for seed in range(3):
        config = queue.suggest(f"alone-{seed}")
        assert seeds(config) == [seed]
        if seed == 1:
            queue.fail(f"alone-{seed}", "ValueError: me")
        else:
            queue.complete(f"alone-{seed}", outcomes(config))
    assert ends == [(0, "finished", ""), (1, "failed", "ValueError: me"), (2, "finished", "")]


def test_a_run_without_an_outcome_is_not_lost_silently():
    queue, ends = make_queue([[0, 1]])
    config = queue.suggest("a")
    queue.complete("a", json.dumps(json.loads(outcomes(config))[:1]))
    assert [end[:2] for end in ends] == [(0, "finished"), (1, "failed")]


def test_tune_may_copy_and_pickle_the_queue():
    queue, _ = make_queue([[0]])
    assert copy.deepcopy(queue) is queue
    assert len(pickle.dumps(queue)) < 200


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
