"""Trainings whose steps are recorded once and replayed, on the CPU: the same bits as by calls.

The recording is of torch's operations in the place of a card's kernels; the kernels themselves are `gpu` tests' part.
"""

import functools
import gc

import pytest
import torch

from l2t_ray import registry
from l2t_ray.config import Augment, Data, Record, Run, Source, Target, Training, Transfer
from l2t_ray.data.load import load_data
from l2t_ray.data.streams import stream
from l2t_ray.methods import Method
from l2t_ray.models import ResNet, Traced, build, initialise
from l2t_ray.training.cuda_graph import WARM_UPS, Replay
from l2t_ray.training.pack import Pack
from tests.support.recording import Footprint, pretended_graphs

CPU = torch.device("cpu")
CLASSES = ("0", "1", "2")
EPOCHS, BATCH, PER_CLASS = 3, 8, 4  # an epoch is a batch of 8 and one of 4
SLOW = pytest.mark.slow
PLAIN_WW = pytest.param("l2t_ww", {}, marks=SLOW)  # `l2t_www` has its passes, too
SEVERAL = [("scratch", {}), ("ufm", {}), PLAIN_WW, ("l2t_www", {}), ("l2t_ww", {"inner": "published"})]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    registry.load()
    return load_data(Data(name="digits", classes=CLASSES, samples_per_class=PER_CLASS), tmp_path_factory.mktemp("data"))


def pack(digits, method, n_runs, precision, transfer, arch="vgg9", first_seed=0, lr=0.05):
    runs = [
        Run(
            data=Data(name="digits", classes=CLASSES, samples_per_class=PER_CLASS),
            method=method,
            seed=seed,
            source=Source(arch="resnet20", width=0.25),
            target=Target(arch=arch, width=0.125),
            training=Training(epochs=EPOCHS, batch_size=BATCH, lr=lr * (1 + seed), precision=precision),
            transfer=Transfer(**transfer),
            augment=Augment(crop_padding=2),
            record=Record(evaluations=1),
        )
        for seed in range(first_seed, first_seed + n_runs)
    ]
    return Pack(runs, digits, source(), CPU)


@functools.cache
def source():
    network = ResNet(20, 0.25, 5)
    initialise(network, stream(9, "init"))
    return network.requires_grad_(False).eval()


def replayed(found):
    """The same pack, with steps and evaluations that are recorded and replayed."""
    for name in ("step", "judge"):
        called = getattr(found, name)
        state = [tensor for training in found.trainings for tensor in training.tensors()]
        setattr(found, name, Replay(called.functions, state, captured=True))
    return found


def train(found):
    for epoch in range(EPOCHS):
        found.train_epoch(epoch)
    return found


def assert_alike(ours, theirs):
    for one, other in zip(ours.trainings, theirs.trainings, strict=True):
        assert one.metrics == other.metrics
        assert all(torch.equal(a, b) for a, b in zip(one.tensors(), other.tensors(), strict=True))


@pytest.mark.parametrize(("method", "transfer"), SEVERAL)
@pytest.mark.parametrize(("n_runs", "precision"), [pytest.param(1, "float32", marks=SLOW), (3, "bf16")])
@torch.no_grad()
def test_a_training_replayed_equals_one_called(digits, monkeypatch, method, transfer, n_runs, precision):
    """Learning rates and draws change with every step; a second shape is recorded beside the first."""
    called = train(pack(digits, method, n_runs, precision, transfer))
    with pretended_graphs(monkeypatch) as recordings:
        found = train(replayed(pack(digits, method, n_runs, precision, transfer)))
    assert found.step.captured
    assert found.judge.captured
    assert [recording.n_replays for recording in recordings[:2]] == [EPOCHS, EPOCHS]
    assert_alike(found, called)


@pytest.mark.parametrize("arch", ["resnet20", pytest.param("vit", marks=SLOW)])
@torch.no_grad()
def test_passes_that_torch_func_makes_are_replayed_too(digits, monkeypatch, arch):
    called = train(pack(digits, "l2t_ww", 1, "float32", {}, arch, lr=0.001))
    with pretended_graphs(monkeypatch):
        found = train(replayed(pack(digits, "l2t_ww", 1, "float32", {}, arch, lr=0.001)))
    assert found.step.captured
    assert not found.trainings[0].reason
    assert_alike(found, called)


@torch.no_grad()
def test_the_next_pack_of_a_shape_takes_over_the_graphs_of_the_one_before(digits, monkeypatch):
    """Nothing is recorded again, and no bit differs from a fresh start; another shape takes over nothing."""
    expected = train(pack(digits, "l2t_www", 2, "float32", {}, first_seed=2))
    with pretended_graphs(monkeypatch) as recordings:
        first = train(replayed(pack(digits, "l2t_www", 2, "float32", {})))
        n_recorded = len(recordings)
        first.keep()
        second = train(pack(digits, "l2t_www", 2, "float32", {}, first_seed=2))
        assert len(recordings) == n_recorded
        assert second.trainings is first.trainings
        assert_alike(second, expected)
        second.keep()
        third = pack(digits, "l2t_www", 1, "float32", {})
    assert third.trainings is not first.trainings
    assert not third.step.captured


@torch.no_grad()
def test_the_graphs_of_a_network_of_ones_own_are_not_taken_over(digits, monkeypatch):
    """It may have drawn buffers, or parameters that no other run draws again."""

    class Own(Method):
        def target(self, run, n_classes, source):
            return Traced(build("resnet20", 0.1, n_classes))

    monkeypatch.setitem(registry.METHODS, "_own", Own("_own"))
    with pretended_graphs(monkeypatch):
        first = train(replayed(pack(digits, "_own", 1, "float32", {})))
        assert first.judge.captured
        first.keep()
        assert pack(digits, "_own", 1, "float32", {}).trainings is not first.trainings


@pytest.mark.parametrize(("method", "transfer"), SEVERAL)
@torch.no_grad()
def test_a_step_needs_no_memory_that_is_gone_after_it(digits, method, transfer):
    (found,) = pack(digits, method, 1, "float32", transfer).trainings
    seen = Footprint()
    for (rows,) in found.begin_epoch(0):
        with seen:
            found.step(rows)
    del rows  # `Replay` gives a recording its own and keeps them
    gc.collect()
    assert seen.n_operations > 100
    assert seen.lost() == 1  # the order of the epoch, which the rows are views of


@torch.no_grad()
def test_a_capture_that_fails_is_told_and_the_steps_are_called(digits, monkeypatch, caplog):
    called = train(pack(digits, "scratch", 2, "float32", {}))
    with pretended_graphs(monkeypatch):
        monkeypatch.setattr(torch.cuda, "CUDAGraph", _refuse)
        found = train(replayed(pack(digits, "scratch", 2, "float32", {})))
    assert not found.step.captured
    assert "no CUDA graph, the steps are called one kernel at a time: not permitted" in caplog.text
    assert_alike(found, called)


def _refuse():
    raise RuntimeError("not permitted when stream is capturing")


class TestTheRecordingItself:
    def test_what_the_host_computes_goes_stale(self, monkeypatch):
        turns = iter(range(10))
        with pretended_graphs(monkeypatch):
            total = torch.zeros(())
            step = Replay([lambda x: total.copy_(x + next(turns))], [total], captured=True)
            found = []
            for _ in range(3):
                step([(torch.zeros(()),)], [True])
                found.append(float(total))
        assert found == [WARM_UPS] * 3

    def test_state_that_is_not_named_keeps_the_warm_ups(self, monkeypatch):
        named, forgotten = torch.zeros(()), torch.zeros(())
        with pretended_graphs(monkeypatch):
            add = Replay([lambda x: (named.add_(x), forgotten.add_(x))], [named], captured=True)
            add([(torch.ones(()),)], [True])
        assert (float(named), float(forgotten)) == (1, 1 + WARM_UPS)

    def test_memory_that_is_gone_is_told(self):
        kept, seen = torch.ones(3), Footprint()
        with seen:
            kept + torch.ones(3)
        assert seen.lost() == 0
        passing = torch.ones(3)
        with seen:
            kept + passing
        del passing
        assert seen.lost() == 1
