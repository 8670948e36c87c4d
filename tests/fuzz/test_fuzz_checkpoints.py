"""Damaged checkpoints fall back to the one before, or to the beginning, and never to a wrong state."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from l2t_ray.training.checkpoint import load_groups, load_state, previous, save_state
from tests.fuzz.hostile import damaged, inputs


def state(epoch):
    return {"key": "k", "epoch": epoch, "state": {"theta": {"w": torch.full((40,), epoch / 3)}, "log": [(1, 0.5)]}}


def content(epoch, folder):
    save_state(folder / "made.ckpt", state(epoch))
    return (folder / "made.ckpt").read_bytes()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return content(1, folder), content(2, folder)


def same(found, epoch):
    return found["epoch"] == epoch and torch.equal(found["state"]["theta"]["w"], state(epoch)["state"]["theta"]["w"])


@inputs(150)
@given(st.data())
def test_a_damaged_checkpoint_is_never_taken_for_a_whole_one(two, tmp_path, tried, data):
    older, newer = two
    file = tmp_path / "run.ckpt"
    newest = data.draw(damaged(newer))
    before = data.draw(st.one_of(st.just(older), damaged(older), st.none()))
    file.write_bytes(newest)
    previous(file).unlink(missing_ok=True)
    if before is not None:
        previous(file).write_bytes(before)
    found = load_state(file)
    whole = [epoch for epoch, kept, made in ((2, newest, newer), (1, before, older)) if kept == made]
    assert (found is None) == (not whole)
    assert not whole or same(found, max(whole))
    ((places, states),) = load_groups([file], by="epoch")
    assert places == [0]
    assert (states is None) == (not whole)
    tried("checkpoints", f"back to epoch {max(whole)}" if whole else "from the beginning")


def test_undamaged_it_is_taken(two, tmp_path):
    Path(tmp_path / "run.ckpt").write_bytes(two[1])
    assert same(load_state(tmp_path / "run.ckpt"), 2)
