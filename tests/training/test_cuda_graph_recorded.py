"""Trainings whose steps are recorded once and replayed, on the CPU: the same bits as by calls.

The recording is of torch's operations in the place of a card's kernels; the kernels themselves are `gpu` tests' part.
"""

import gc

import pytest
import torch

from l2t_ray import registry
from l2t_ray.config import Augment, Data, Record, Run, Source, Target, Training, Transfer
from l2t_ray.data.load import load_data
from l2t_ray.data.streams import stream
from l2t_ray.models import ResNet, initialise
from l2t_ray.training.cuda_graph import WARM_UPS, Replay
from l2t_ray.training.run_training import RunTraining
from tests.support.recording import Footprint, pretended_graphs

CPU = torch.device("cpu")
CLASSES = ("0", "1", "2")
EPOCHS, BATCH, PER_CLASS = 3, 8, 4  # an epoch is a batch of 8 and one of 4
SEVERAL = [("scratch", {}), ("ufm", {}), ("l2t_ww", {}), ("l2t_www", {}), ("l2t_ww", {"inner": "published"})]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    registry.load()
    return load_data(Data(name="digits", classes=CLASSES, samples_per_class=PER_CLASS), tmp_path_factory.mktemp("data"))


def training(digits, method, precision, transfer):
    source = ResNet(20, 0.25, 5)
    initialise(source, stream(9, "init"))
    run = Run(
        data=Data(name="digits", classes=CLASSES, samples_per_class=PER_CLASS),
        method=method,
        seed=0,
        source=Source(arch="resnet20", width=0.25),
        target=Target(width=0.125),
        training=Training(epochs=EPOCHS, batch_size=BATCH, lr=0.05, precision=precision),
        transfer=Transfer(**transfer),
        augment=Augment(crop_padding=2),
        record=Record(evaluations=1),
    )
    return RunTraining(run, digits, source.requires_grad_(False).eval(), CPU)


@pytest.mark.parametrize(("method", "transfer"), SEVERAL)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@torch.no_grad()
def test_a_training_replayed_equals_one_called(digits, monkeypatch, method, transfer, precision):
    """Learning rates and draws change with every step; a second shape is recorded beside the first."""
    called, replayed = (training(digits, method, precision, transfer) for _ in range(2))
    with pretended_graphs(monkeypatch) as recordings:
        replayed.step = Replay(replayed._step, replayed.learner.tensors(), captured=True)
        for epoch in range(EPOCHS):
            called.train_epoch(epoch)
            replayed.train_epoch(epoch)
    assert [recording.n_replays for recording in recordings] == [EPOCHS, EPOCHS]
    assert replayed.metrics == called.metrics
    assert all(torch.equal(a, b) for a, b in zip(replayed.learner.tensors(), called.learner.tensors(), strict=True))


@pytest.mark.parametrize(("method", "transfer"), SEVERAL)
@torch.no_grad()
def test_a_step_needs_no_memory_that_is_gone_after_it(digits, method, transfer):
    found = training(digits, method, "float32", transfer)
    seen = Footprint()
    found.step = Replay(lambda *given: _under(seen, found._step, given), [], captured=False)
    found.train_epoch(0)
    inputs = 4  # of the epoch's calls, and gone with it; `Replay` gives a recording its own and keeps them
    gc.collect()
    assert seen.n_operations > 200
    assert seen.lost() == inputs


def _under(mode, function, given):
    with mode:
        return function(*given)


class TestTheRecordingItself:
    def test_what_the_host_computes_goes_stale(self, monkeypatch):
        turns = iter(range(10))
        with pretended_graphs(monkeypatch):
            step = Replay(lambda x: (x + next(turns),), [], captured=True)
            found = [float(step(torch.zeros(()))[0]) for _ in range(3)]
        assert found == [WARM_UPS] * 3

    def test_state_that_is_not_named_keeps_the_warm_ups(self, monkeypatch):
        named, forgotten = torch.zeros(()), torch.zeros(())
        with pretended_graphs(monkeypatch):
            Replay(lambda x: (named.add_(x), forgotten.add_(x)), [named], captured=True)(torch.ones(()))
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
