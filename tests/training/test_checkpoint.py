"""Durable states: whole or not there."""

import pytest
import torch

from l2t_ray.training.checkpoint import (
    Clock,
    DamagedCheckpointError,
    load_file,
    load_groups,
    load_state,
    previous,
    remove_state,
    save_state,
)


def state(epoch):
    return {"epoch": epoch, "theta": {"w": torch.arange(5.0, dtype=torch.float64) / 3 + epoch}, "log": [(1, 0.5)]}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a b's" / "0123456789abcdef.ckpt"


def test_a_state_comes_back_bitwise(file):
    save_state(file, state(3))
    loaded = load_state(file)
    assert loaded["epoch"] == 3
    assert loaded["log"] == [(1, 0.5)]
    assert torch.equal(loaded["theta"]["w"], state(3)["theta"]["w"])


def test_no_file_is_no_state(file):
    assert load_state(file) is None
    remove_state(file)


@pytest.mark.parametrize("length", [0, 7, 8, 39, 40, 200, -1], ids=lambda n: f"cut-to-{n}")
def test_a_truncated_checkpoint_falls_back_to_the_one_before(file, length):
    save_state(file, state(1))
    save_state(file, state(2))
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(DamagedCheckpointError, match="checksum"):
        load_file(file)
    assert load_state(file)["epoch"] == 1


def test_every_flipped_byte_is_noticed(file):
    save_state(file, {"epoch": 1})
    content = file.read_bytes()
    for place in range(0, len(content), 11):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert load_state(file) is None


def test_code_in_a_checkpoint_is_not_run(file, tmp_path):
    import hashlib
    import pickle

    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "pwned"), "w")

    body = pickle.dumps({"epoch": Evil()}, protocol=2)
    file.parent.mkdir()
    file.write_bytes(b"L2TCKPT1" + hashlib.sha256(body).digest() + body)
    assert load_state(file) is None
    assert not (tmp_path / "pwned").exists()


def test_two_are_kept_and_both_are_removed(file):
    for epoch in (1, 2, 3):
        save_state(file, state(epoch))
    assert load_file(file)["epoch"] == 3
    assert load_file(previous(file))["epoch"] == 2
    remove_state(file)
    assert list(file.parent.iterdir()) == []


def test_the_newest_state_is_loaded_though_the_one_before_is_whole(file):
    save_state(file, state(1))
    save_state(file, state(2))
    assert load_state(file)["epoch"] == 2


def groups_of(paths):
    """The runs' places by the epoch that they go on from."""
    groups = load_groups(paths, by="epoch")
    return {states[0]["epoch"] if states else 0: places for places, states in groups}


def test_a_pack_resumes_at_the_newest_epoch_that_all_its_runs_have(tmp_path):
    first, second = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    for epoch in (1, 2):
        save_state(first, state(epoch))
    save_state(second, state(1))  # killed between the two files
    assert groups_of([first, second]) == {1: [0, 1]}
    assert groups_of([]) == {}


def test_runs_that_were_in_several_packs_lose_nothing(tmp_path):
    files = [tmp_path / f"{name}.ckpt" for name in "abcde"]
    for file, epochs in zip(files, [(8, 9), (), (4, 5), (9,), (5, 6)], strict=True):
        for epoch in epochs:
            save_state(file, state(epoch))
    assert groups_of(files) == {9: [0, 3], 5: [2, 4], 0: [1]}


def test_of_epochs_that_as_many_runs_have_the_newest_counts(tmp_path):
    files = [tmp_path / f"{name}.ckpt" for name in "abc"]
    for file, epochs in zip(files, [(2,), (2, 3), (3,)], strict=True):
        for epoch in epochs:
            save_state(file, state(epoch))
    assert groups_of(files) == {3: [1, 2], 2: [0]}


def test_checkpoints_cost_two_percent_of_the_time_at_most():
    time_s = [0.0]
    clock = Clock(interval_s=60, now=lambda: time_s[0])
    written, spent_s = 0, 0.0
    for _ in range(100_000):
        time_s[0] += 1.0
        clock.tick()
        if clock.is_due():
            with clock:
                time_s[0] += 3.0  # slower than 2 % of 60 s
            written, spent_s = written + 1, spent_s + 3.0
    assert 0.018 < spent_s / time_s[0] <= 0.02
    assert written > 600


@pytest.mark.parametrize("epoch_s", [1.0, 7.0, 25.0, 59.0])
def test_a_kill_costs_no_more_than_the_interval(epoch_s):
    """Work since the last checkpoint, at every moment: an epoch is not begun that would end too late."""
    time_s, kept_s, most_s = [0.0], 0.0, 0.0
    clock = Clock(interval_s=60, now=lambda: time_s[0])
    for _ in range(2000):
        time_s[0] += epoch_s
        most_s = max(most_s, time_s[0] - kept_s)
        clock.tick()
        if clock.is_due():
            with clock:
                time_s[0] += 0.1
            kept_s = time_s[0]
    assert 60 - 2 * epoch_s < most_s <= 60
