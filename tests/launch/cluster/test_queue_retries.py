"""What comes back to the queue after a failure, as what, and how often."""

import json

from ray.tune.search import Searcher

from l2t_ray.launch.cluster.queue import DEATHS
from l2t_ray.launch.placement.devices import Group
from l2t_ray.launch.placement.measurements import Figures
from l2t_ray.launch.placement.packing import shape, speed_shape
from l2t_ray.launch.worker.job import encode
from tests.support.queues import cards, make_queue, make_run, outcomes, seeds, take


def test_a_run_that_raises_is_tried_again_and_then_given_up_with_its_reason(tmp_path):
    queue, ends = make_queue(tmp_path, [0], retries=2)
    for attempt in range(3):
        assert ends == []
        assert seeds(queue.suggest(f"trial-{attempt}")) == [0]
        queue.fail(f"trial-{attempt}", f"ValueError: boom {attempt}")
    assert ends == [(0, "failed", "ValueError: boom 2")]
    assert queue.suggest("e") == Searcher.FINISHED


def test_a_hopeless_failure_is_not_tried_again(tmp_path):
    queue, ends = make_queue(tmp_path, [0], retries=5)
    queue.suggest("a")
    queue.fail("a", "no such file", hopeless=True)
    assert ends == [(0, "failed", "no such file")]


def test_a_pack_that_fails_is_split_and_only_the_culprit_fails(tmp_path):
    queue, ends = make_queue(tmp_path, [0, 1, 2], [Group("cpu", 1, 0, 1.0, is_gpu=False)], retries=0, pack=3)
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


def test_a_pack_that_runs_out_of_memory_comes_back_smaller_and_costs_no_attempt(tmp_path):
    queue, ends = make_queue(tmp_path, range(8), [cards(1)], retries=0, gpu_share=1.0, pack=8)
    assert take(queue, "a") == [*range(8)]
    queue.fail("a", "OutOfMemoryError", memory=True)
    config = queue.suggest("b")
    assert seeds(config) == [0, 1, 2, 3]
    queue.complete("b", outcomes(config))
    assert len(seeds(queue.suggest("c"))) == 4
    assert len(ends) == 4
    learned = Figures(tmp_path / "figures.json").get(speed_shape(make_run(0)), "card")
    assert learned.most_pack == 4


def test_a_run_that_runs_out_of_memory_alone_gets_a_larger_share_until_it_has_the_whole_device(tmp_path):
    queue, ends = make_queue(tmp_path, range(3), [cards(1)], retries=0, gpu_share=0.25)
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
    assert ends[-1] == (0, "failed", "OutOfMemoryError: 30 GiB; it had all of card")
    assert queue.suggest("f") == Searcher.FINISHED
    assert Figures(tmp_path / "figures.json").get(speed_shape(make_run(0)), "card").most_processes == 1


def test_a_run_without_an_outcome_is_not_lost_silently(tmp_path):
    queue, ends = make_queue(tmp_path, [0, 1], [Group("cpu", 1, 0, 1.0, is_gpu=False)], pack=2)
    config = queue.suggest("a")
    queue.complete("a", json.dumps(json.loads(outcomes(config))[:1]))
    assert [end[:2] for end in ends] == [(0, "finished"), (1, "failed")]


def test_a_pack_that_loses_its_process_goes_on_whole_and_costs_no_attempt(tmp_path):
    queue, ends = make_queue(tmp_path, [0, 1], [Group("cpu", 1, 0, 1.0, is_gpu=False)], retries=0, pack=2)
    assert take(queue, "a") == [0, 1]
    queue.lose("a", "the node is gone", epoch=3)
    assert take(queue, "b") == [0, 1]
    queue.lose("b", "the node is gone", epoch=3)  # no further than before: one of the two may be the culprit
    assert [take(queue, "c"), ends] == [[0], []]


def test_a_run_whose_process_dies_again_and_again_without_an_epoch_more_is_given_up(tmp_path):
    queue, ends = make_queue(tmp_path, [0], retries=0)
    for number in range(2 * DEATHS):  # preempted often, and further every time
        queue.suggest(f"early-{number}")
        queue.lose(f"early-{number}", "killed", epoch=number)
    for number in range(DEATHS - 1):
        assert ends == []
        queue.suggest(f"late-{number}")
        queue.lose(f"late-{number}", "killed", epoch=2 * DEATHS - 1)
    assert ends == [(0, "failed", f"killed; {DEATHS} times in a row without a further epoch")]
    assert queue.suggest("e") == Searcher.FINISHED


def test_runs_that_lost_their_process_or_ran_out_of_memory_are_the_next_to_train(tmp_path):
    # they have checkpoints, or spent time, that the others have not
    queue, _ = make_queue(tmp_path, range(8), [cards(1)], gpu_share=1.0, pack=2)
    assert take(queue, "a") == [0, 1]
    queue.lose("a", "the node is gone", epoch=3)
    assert take(queue, "b") == [0, 1]
    queue, _ = make_queue(tmp_path, range(8), [cards(1)], gpu_share=1.0, pack=4)
    assert take(queue, "a") == [0, 1, 2, 3]
    queue.fail("a", "OutOfMemoryError", memory=True)
    assert take(queue, "b") == [0, 1]


def test_a_run_alone_never_gets_a_smaller_share_than_its_shape_has_learned(tmp_path):
    queue, _ = make_queue(tmp_path, range(4), [cards(1)], retries=0)  # four processes, unmeasured
    for name in "abcd":
        take(queue, name)
    queue.fail("a", "OutOfMemoryError", memory=True)  # may have a half now
    queue.fail("b", "OutOfMemoryError", memory=True)
    queue._lanes.learn(shape(make_run(0)), cards(1), processes=1)  # another run of the shape needed the whole
    for name in "cd":
        queue.complete(name, outcomes({"pack": encode(queue.live[name].runs)}))
    assert queue.suggest("e")["share"]["gpus"] == 1.0
