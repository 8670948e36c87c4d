"""What Tune trains next."""

import copy
import json
import pickle

import pytest
from ray.tune.search import Searcher

from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.errors import InputError
from l2t_ray.execution import Execution
from l2t_ray.figures import Figure, Figures, Speed
from l2t_ray.fleet import Group
from l2t_ray.lanes import Lanes
from l2t_ray.placement import shape, speed_shape
from l2t_ray.queue import DEATHS, Queue
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
    def __call__(self, run, ended, pack, device):
        assert run.key == ended.key
        assert run in pack.runs
        self.append((run.seed, ended.status, ended.reason))


def cards(n=1, device="card", cores=8.0):
    return Group(device, n, 24 * 2**30, cores, is_gpu=True)


@pytest.fixture
def make_queue(tmp_path):
    def make(runs, groups=None, retries=1, known=None, most_pack=None, **execution):
        runs = [make_run(run) if isinstance(run, int) else run for run in runs]
        groups = groups or [Group("cpu", 1, 0, 2.0, is_gpu=False)]
        figures = Figures(tmp_path / "figures.json")
        cells = {run.key: shape(run) for run in runs}
        known = {(shape(make_run(0, **dict(settings))), device): s for (settings, device), s in (known or {}).items()}
        lanes = Lanes(Execution(**execution), groups, figures, runs, cells, known=known)
        ends = Ends()
        return Queue(runs, lanes, WORK, retries=retries, on_end=ends), ends

    return make


def outcomes(config):
    values = {"status": "finished", "reason": "", "metrics": {"a": [[1, 2.0]]}, "wall_s": 1.0, "peak_bytes": 3}
    return json.dumps([{"key": item["key"], **values, "traces": "ignored"} for item in json.loads(config["pack"])])


def seeds(config):
    return [item["run"]["seed"] for item in json.loads(config["pack"])]


def take(queue, name):
    """The seeds of the next pack, whose trial starts at once."""
    config = queue.suggest(name)
    queue.started(name)
    return seeds(config)


def test_packs_come_in_order_and_a_trial_fewer_than_slots_and_half_waits(make_queue):
    queue, ends = make_queue(range(4), pack=2)
    first, second = queue.suggest("a"), queue.suggest("b")
    assert (seeds(first), seeds(second)) == ([0, 1], [2])  # the last packs share what is left
    third = queue.suggest("c")
    assert third is None
    queue.complete("b", outcomes(second))
    third = queue.suggest("c")
    assert seeds(third) == [3]
    assert queue.suggest("d") is None  # a failure may still bring work back
    queue.complete("a", outcomes(first))
    queue.complete("c", outcomes(third))
    assert queue.suggest("d") == Searcher.FINISHED
    assert sorted(ends) == [(seed, "finished", "") for seed in range(4)]


def test_with_plenty_to_do_trials_wait_so_that_tune_keeps_their_processes(make_queue):
    queue, _ = make_queue(range(100))
    assert [seeds(queue.suggest(name)) for name in "abcd"] == [[0], [1], [2], [3]]  # two slots
    assert queue.suggest("e") is None


def test_the_longest_come_first_and_before_them_the_unknown(make_queue):
    settings = [{"training": {"epochs": n}} for n in (1, 2, 3)]
    runs = [make_run(seed, **values) for values in settings for seed in range(2)]
    known = {(shape(make_run(0, **settings[0])), "cpu"): 5.0, (shape(make_run(0, **settings[1])), "cpu"): 50.0}
    queue, _ = make_queue(runs)
    queue._lanes._known = known
    queue = Queue(runs, queue._lanes, WORK, retries=1, on_end=Ends())
    order = []
    for trial in range(6):
        config = queue.suggest(str(trial))
        order.append(json.loads(config["pack"])[0]["run"]["training"]["epochs"])
        queue.complete(str(trial), outcomes(config))
    assert order == [3, 3, 2, 2, 1, 1]


def test_towards_the_end_packs_get_smaller_so_that_no_device_is_idle(make_queue):
    queue, _ = make_queue(range(12), [cards(2)], pack=4, gpu_share=0.5)  # four slots
    sizes, live = [], []
    while queue.n_waiting:
        config = queue.suggest(str(len(sizes)))
        if config is None:
            name, before = live.pop(0)
            queue.complete(name, outcomes(before))
            continue
        live.append((str(len(sizes)), config))
        sizes.append(len(seeds(config)))
    assert sizes == [3, 3, 2, 1, 1, 1, 1]
    assert sum(sizes) == 12


def test_shares_of_a_card_never_add_up_to_more_than_it(make_queue):
    queue, _ = make_queue(range(5), [cards(1)], gpu_share=0.3333)
    configs = [queue.suggest(name) for name in "abcd"]
    assert [config and round(config["share"]["gpus"], 4) for config in configs] == [0.3333] * 3 + [None]


def test_a_slow_device_gets_no_run_that_the_fast_ones_would_finish_sooner(make_queue):
    runs = [make_run(seed) for seed in range(8)]
    queue, _ = make_queue(runs, [cards(1, "fast"), cards(1, "slow")], gpu_share=1.0)
    queue._lanes._known = {(shape(runs[0]), "fast"): 1.0, (shape(runs[0]), "slow"): 4.5}
    devices = []
    for trial in range(8):
        config = queue.suggest(str(trial))
        devices.append(queue.live[str(trial)].group.device)
        if devices[-1] == "fast":
            queue.complete(str(trial), outcomes(config))
    assert devices.count("fast") >= 7
    queue.complete(str(devices.index("slow")), outcomes(config)) if "slow" in devices[:4] else None
    assert "slow" not in devices[4:]  # four runs are left: the fast card has them done in 4 s


def test_a_slow_device_is_judged_by_how_long_its_pack_takes(make_queue):
    runs = [make_run(seed) for seed in range(32)]
    groups = [cards(1, "fast"), cards(1, "slow")]
    queue, _ = make_queue(runs, groups, gpu_share=1.0, pack=8)
    queue._lanes._known = {(shape(runs[0]), "fast"): 1.0, (shape(runs[0]), "slow"): 4.5}
    take(queue, "a")
    assert queue.live["a"].group.device == "fast"
    take(queue, "b")  # waits for the same card
    assert queue.live["b"].group.device == "fast"
    assert queue.suggest("c") is None  # 36 s for eight runs on the slow card; the fast one has the sixteen left in 16 s


def test_a_run_that_raises_is_tried_again_and_then_given_up_with_its_reason(make_queue):
    queue, ends = make_queue([0], retries=2)
    for attempt in range(3):
        assert ends == []
        assert seeds(queue.suggest(f"trial-{attempt}")) == [0]
        queue.fail(f"trial-{attempt}", f"ValueError: boom {attempt}")
    assert ends == [(0, "failed", "ValueError: boom 2")]
    assert queue.suggest("e") == Searcher.FINISHED


def test_a_hopeless_failure_is_not_tried_again(make_queue):
    queue, ends = make_queue([0], retries=5)
    queue.suggest("a")
    queue.fail("a", "no such file", hopeless=True)
    assert ends == [(0, "failed", "no such file")]


def test_a_pack_that_fails_is_split_and_only_the_culprit_fails(make_queue):
    queue, ends = make_queue([0, 1, 2], [Group("cpu", 1, 0, 1.0, is_gpu=False)], retries=0, pack=3)
    assert take(queue, "pack") == [0, 1, 2]
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


def test_a_pack_that_runs_out_of_memory_comes_back_smaller_and_costs_no_attempt(make_queue, tmp_path):
    queue, ends = make_queue(range(8), [cards(1)], retries=0, gpu_share=1.0, pack=8)
    assert take(queue, "a") == [*range(8)]
    queue.fail("a", "OutOfMemoryError", memory=True)
    config = queue.suggest("b")
    assert seeds(config) == [0, 1, 2, 3]
    queue.complete("b", outcomes(config))
    assert len(seeds(queue.suggest("c"))) == 4
    assert len(ends) == 4
    learned = Figures(tmp_path / "figures.json").get(speed_shape(make_run(0)), "card")
    assert learned.most_pack == 4


def test_a_run_that_runs_out_of_memory_alone_gets_a_larger_share_until_it_has_the_whole_device(make_queue, tmp_path):
    queue, ends = make_queue(range(3), [cards(1)], retries=0, gpu_share=0.25)
    for name in "abc":
        take(queue, name)
    assert queue.suggest("d") is None
    queue.fail("a", "OutOfMemoryError", memory=True)
    config = queue.suggest("d")  # two quarters are taken, a half is free
    assert (seeds(config), config["share"]["gpus"], config["share"]["fraction"]) == ([0], 0.5, 0.5)
    queue.fail("d", "OutOfMemoryError", memory=True)
    assert queue.suggest("e") is None  # the others are there still
    for name in "bc":
        queue.complete(name, outcomes({"pack": encode(queue.live[name].runs)}))
    config = queue.suggest("e")
    assert (config["share"]["gpus"], config["share"]["fraction"]) == (1.0, 1.0)
    queue.fail("e", "OutOfMemoryError: 30 GiB", memory=True)
    assert ends[-1] == (0, "failed", "OutOfMemoryError: 30 GiB; it had all of card for itself")
    assert queue.suggest("f") == Searcher.FINISHED
    assert Figures(tmp_path / "figures.json").get(speed_shape(make_run(0)), "card").most_processes == 1


def test_a_measured_pack_is_used_and_gets_its_memory(make_queue, tmp_path):
    runs = [make_run(seed) for seed in range(64)]
    speeds = tuple(Speed(k, 1.0, 0.0, k * 2**30) for k in (1, 2, 4))
    Figures(tmp_path / "figures.json").put(speed_shape(runs[0]), "card", Figure(speeds, context_bytes=2**30))
    queue, _ = make_queue(runs, [cards(1)])
    config = queue.suggest("a")
    assert seeds(config) == [0, 1, 2, 3]
    assert config["share"]["fraction"] == pytest.approx(23 / 24)


def test_a_run_without_an_outcome_is_not_lost_silently(make_queue):
    queue, ends = make_queue([0, 1], [Group("cpu", 1, 0, 1.0, is_gpu=False)], pack=2)
    config = queue.suggest("a")
    queue.complete("a", json.dumps(json.loads(outcomes(config))[:1]))
    assert [end[:2] for end in ends] == [(0, "finished"), (1, "failed")]


def test_a_queue_that_is_fed_asks_only_for_what_it_lacks_and_ends_with_its_feed(make_queue, tmp_path):
    example = make_run(99)
    group = Group("cpu", 1, 0, 2.0, is_gpu=False)
    lanes = Lanes(Execution(pack=2), [group], Figures(tmp_path / "f.json"), [example], {example.key: "c"}, known={})
    asked, left = [], [make_run(seed) for seed in range(5)]

    def more(n):
        asked.append(n)
        found, left[:] = left[:n], left[n:]
        for run in found:
            lanes.add(run)
        return found

    ends = Ends()
    queue = Queue([], lanes, WORK, retries=0, on_end=ends, more=more, n_ahead=4)
    first = queue.suggest("a")
    assert (asked, seeds(first)) == ([4], [0, 1])
    second = queue.suggest("b")
    assert (asked, seeds(second)) == ([4, 2], [2, 3])  # two of four are packed, one more was left
    queue.complete("a", outcomes(first))
    queue.complete("b", outcomes(second))
    third = queue.suggest("c")
    assert queue.suggest("d") is None  # its result may bring more
    queue.complete("c", outcomes(third))
    assert queue.suggest("d") == Searcher.FINISHED
    assert sorted(ends) == [(seed, "finished", "") for seed in range(5)]


def test_tune_may_copy_and_pickle_the_queue(make_queue):
    queue, _ = make_queue([0])
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


def test_a_pack_that_loses_its_process_goes_on_whole_and_costs_no_attempt(make_queue):
    queue, ends = make_queue([0, 1], [Group("cpu", 1, 0, 1.0, is_gpu=False)], retries=0, pack=2)
    assert take(queue, "a") == [0, 1]
    queue.lose("a", "the node is gone", epoch=3)
    assert take(queue, "b") == [0, 1]
    queue.lose("b", "the node is gone", epoch=3)  # no further than before: one of the two may be the culprit
    assert [take(queue, "c"), ends] == [[0], []]


def test_a_run_whose_process_dies_again_and_again_without_an_epoch_more_is_given_up(make_queue):
    queue, ends = make_queue([0], retries=0)
    for number in range(2 * DEATHS):  # preempted often, and further every time
        queue.suggest(f"early-{number}")
        queue.lose(f"early-{number}", "killed", epoch=number)
    for number in range(DEATHS - 1):
        assert ends == []
        queue.suggest(f"late-{number}")
        queue.lose(f"late-{number}", "killed", epoch=2 * DEATHS - 1)
    assert ends == [(0, "failed", f"killed; {DEATHS} times in a row without an epoch more")]
    assert queue.suggest("e") == Searcher.FINISHED
