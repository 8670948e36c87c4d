"""Durable states: whole or not there."""

import pytest
import torch

from l2t_ray.checkpoint import (
    Clock,
    DamagedCheckpointError,
    load_file,
    load_state,
    load_together,
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


def test_a_pack_resumes_at_the_newest_epoch_that_all_its_runs_have(tmp_path):
    first, second = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    for epoch in (1, 2):
        save_state(first, state(epoch))
    save_state(second, state(1))  # killed between the two files
    assert [item["epoch"] for item in load_together([first, second], by="epoch")] == [1, 1]
    remove_state(second)
    assert load_together([first, second], by="epoch") is None
    assert load_together([], by="epoch") is None


def test_checkpoints_cost_two_percent_of_the_time_at_most():
    time_s = [0.0]
    clock = Clock(interval_s=60, now=lambda: time_s[0])
    written, spent_s = 0, 0.0
    for _ in range(100_000):
        time_s[0] += 1.0
        if clock.is_due():
            with clock:
                time_s[0] += 3.0  # slower than 2 % of 60 s
            written, spent_s = written + 1, spent_s + 3.0
    assert 0.018 < spent_s / time_s[0] <= 0.02
    assert written > 600


def test_quick_checkpoints_come_at_the_interval():
    time_s = [0.0]
    clock = Clock(interval_s=60, now=lambda: time_s[0])
    written = 0
    for _ in range(6000):
        time_s[0] += 1.0
        if clock.is_due():
            with clock:
                written += 1
    assert written == 100
