"""What Tune trains next."""

import copy
import json
import pickle

import pytest
from ray.tune.search import Searcher

from l2t_ray.config import Execution
from l2t_ray.launch.cluster.queue import Queue
from l2t_ray.launch.placement.allocation import Lanes
from l2t_ray.launch.placement.devices import Group
from l2t_ray.launch.placement.measurements import Figure, Figures, Speed
from l2t_ray.launch.placement.packing import shape, speed_shape
from tests.support.queues import WORK, Ends, cards, make_queue, make_run, outcomes, seeds, take


def test_packs_come_in_order_and_a_trial_fewer_than_slots_and_half_waits(tmp_path):
    queue, ends = make_queue(tmp_path, range(4), pack=2)
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


def test_with_plenty_to_do_trials_wait_so_that_tune_keeps_their_processes(tmp_path):
    queue, _ = make_queue(tmp_path, range(100))
    assert [seeds(queue.suggest(name)) for name in "abcd"] == [[0], [1], [2], [3]]  # two slots
    assert queue.suggest("e") is None


def test_the_longest_come_first_and_before_them_the_unknown(tmp_path):
    settings = [{"training": {"epochs": n}} for n in (1, 2, 3)]
    runs = [make_run(seed, **values) for values in settings for seed in range(2)]
    known = {(shape(make_run(0, **settings[0])), "cpu"): 5.0, (shape(make_run(0, **settings[1])), "cpu"): 50.0}
    queue, _ = make_queue(tmp_path, runs, known=known)
    order = []
    for trial in range(6):
        config = queue.suggest(str(trial))
        order.append(json.loads(config["pack"])[0]["run"]["training"]["epochs"])
        queue.complete(str(trial), outcomes(config))
    assert order == [3, 3, 2, 2, 1, 1]


def test_towards_the_end_packs_get_smaller_so_that_no_device_is_idle(tmp_path):
    queue, _ = make_queue(tmp_path, range(12), [cards(2)], pack=4, gpu_share=0.5)  # four slots
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


def test_shares_of_a_card_never_add_up_to_more_than_it(tmp_path):
    queue, _ = make_queue(tmp_path, range(5), [cards(1)], gpu_share=0.3333)
    configs = [queue.suggest(name) for name in "abcd"]
    assert [config and round(config["share"]["gpus"], 4) for config in configs] == [0.3333] * 3 + [None]


@pytest.mark.parametrize("k", [5, 9, 11, 12])
def test_the_last_of_k_processes_fits_however_the_shares_round(tmp_path, k):
    # 1 - 4 * 0.2 < 0.2 in floating point
    queue, _ = make_queue(tmp_path, range(k), [cards(1)], gpu_share=1 / k, retries=1)
    assert all(queue.suggest(f"first-{n}") for n in range(k))
    for n in range(k):  # each failed once: they come back one by one
        queue.fail(f"first-{n}", "ValueError")
    assert all(queue.suggest(f"again-{n}") for n in range(k))


def test_a_slow_device_helps_as_long_as_it_ends_before_the_fast_one_has_all_done(tmp_path):
    runs = [make_run(seed) for seed in range(8)]
    known = {(shape(runs[0]), "fast"): 1.0, (shape(runs[0]), "slow"): 4.5}
    queue, _ = make_queue(tmp_path, runs, [cards(1, "fast"), cards(1, "slow")], known=known, gpu_share=1.0)
    devices = []
    for trial in "abcd":
        queue.suggest(trial)
        devices.append(queue.live[trial].group.device)
    # fast trains a, b waits for it; then six and five runs are left: 6 s and 5 s of fast, of slow a run takes 4.5 s
    assert devices == ["fast", "fast", "slow", "slow"]
    assert queue.suggest("e") is None  # four are left: fast has them done before


def test_a_slow_device_is_judged_by_how_long_its_pack_takes(tmp_path):
    runs = [make_run(seed) for seed in range(32)]
    groups = [cards(1, "fast"), cards(1, "slow")]
    known = {(shape(runs[0]), "fast"): 1.0, (shape(runs[0]), "slow"): 4.5}
    queue, _ = make_queue(tmp_path, runs, groups, known=known, gpu_share=1.0, pack=8)
    take(queue, "a")
    assert queue.live["a"].group.device == "fast"
    take(queue, "b")  # waits for the same card
    assert queue.live["b"].group.device == "fast"
    assert queue.suggest("c") is None  # 36 s for eight runs on the slow card; the fast one has the sixteen left in 16 s


def test_a_measured_pack_is_used_and_gets_its_memory(tmp_path):
    runs = [make_run(seed) for seed in range(64)]
    speeds = tuple(Speed(k, 1.0, 0.0, k * 2**30) for k in (1, 2, 4))
    Figures(tmp_path / "figures.json").put(speed_shape(runs[0]), "card", Figure(speeds, context_bytes=2**30))
    queue, _ = make_queue(tmp_path, runs, [cards(1)])
    config = queue.suggest("a")
    assert seeds(config) == [0, 1, 2, 3]
    assert config["share"]["fraction"] == pytest.approx(23 / 24)


def test_a_queue_that_is_fed_asks_only_for_what_it_lacks_and_ends_with_its_feed(tmp_path):
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


def test_tune_may_copy_and_pickle_the_queue(tmp_path):
    queue, _ = make_queue(tmp_path, [0])
    assert copy.deepcopy(queue) is queue
    assert len(pickle.dumps(queue)) < 200
