"""One pack from start to end on digits: outcomes, resumption, neighbours, divergence."""

import gc
import json
import math
import weakref
from dataclasses import asdict

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from l2t_ray import registry
from l2t_ray.config import Augment, Data, Record, Run, Source, Target, Training, pack_shape
from l2t_ray.data.augment import normalize
from l2t_ray.data.load import load_data
from l2t_ray.data.streams import stream
from l2t_ray.ledger.spool import Ended
from l2t_ray.models import ResNet, initialise
from l2t_ray.training.learner import Learner
from l2t_ray.training.pack import Pack, train
from l2t_ray.training.run_training import evaluation_epochs, learning_rate
from tests.support.oracles import calibration_error_percent

CPU = torch.device("cpu")
CLASSES = ("0", "1", "2")


class KillError(Exception):
    """What a test raises in the middle of a training."""


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    registry.load()
    return load_data(Data(name="digits", classes=CLASSES, samples_per_class=4), tmp_path_factory.mktemp("data"))


@pytest.fixture
def source():
    network = ResNet(20, 0.25, 5)
    initialise(network, stream(9, "init"))
    return network.requires_grad_(False).eval()


def run(method="scratch", seed=0, epochs=3, precision="float32", **training):
    return Run(
        data=Data(name="digits", classes=CLASSES, samples_per_class=4),
        method=method,
        seed=seed,
        source=Source(arch="resnet20", width=0.25),
        target=Target(width=0.1),
        training=Training(epochs=epochs, batch_size=8, precision=precision, **training),
        augment=Augment(flip=False),
        record=Record(evaluations=1, per_class=True),
    )


def test_metrics_have_the_ledger_names_and_epochs(digits):
    (outcome,) = train([run()], digits, None, device=CPU)
    assert outcome.status == "finished"
    assert [epoch for epoch, _ in outcome.metrics["train_loss"]] == [1, 2, 3]
    assert [epoch for epoch, _ in outcome.metrics["test_accuracy_percent"]] == [2, 3]
    by_class = [outcome.metrics[f"test_accuracy_class_{name}_percent"][-1][1] for name in CLASSES]
    counts = torch.bincount(digits.test_labels).tolist()
    mean = sum(a * n for a, n in zip(by_class, counts, strict=True)) / sum(counts)
    assert outcome.metrics["test_accuracy_percent"][-1][1] == pytest.approx(mean, rel=1e-5)
    assert asdict(Ended.from_json(json.loads(json.dumps(outcome.to_json())))) == asdict(outcome)


@pytest.mark.parametrize("per_class", [False, True])
def test_the_last_evaluation_has_every_class_and_each_one_where_asked_for(digits, per_class):
    wanted = run()
    wanted = wanted.model_copy(update={"record": wanted.record.model_copy(update={"per_class": per_class})})
    (outcome,) = train([wanted], digits, None, device=CPU)
    for name in CLASSES:
        points = outcome.metrics[f"test_accuracy_class_{name}_percent"]
        assert [epoch for epoch, _ in points] == ([2, 3] if per_class else [3])
    errors = [error for _, error in outcome.metrics["test_ece_percent"]]
    assert len(errors) == 2
    assert all(0 <= error <= 100 for error in errors)


def test_of_many_classes_only_those_asked_for_are_measured(digits, monkeypatch):
    monkeypatch.setattr("l2t_ray.training.run_training.FEW_CLASSES", 2)
    wanted = run()
    wanted = wanted.model_copy(update={"record": wanted.record.model_copy(update={"per_class": False})})
    (outcome,) = train([wanted], digits, None, device=CPU)
    assert not [name for name in outcome.metrics if "class" in name]


def test_the_logged_calibration_error_is_that_of_the_final_network(digits):
    snapshots = []
    (outcome,) = train([run()], digits, None, device=CPU, on_epoch=lambda epoch, snapshot: snapshots.append(snapshot()))
    learner = Learner(run(), len(CLASSES), None, CPU)
    learner.restore(snapshots[-1][0])
    with torch.no_grad():
        logits = learner.predict(normalize(digits.test_images, torch.float32))
    expected = calibration_error_percent(logits, digits.test_labels)
    assert outcome.metrics["test_ece_percent"][-1][1] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("method", ["scratch", "l2t_www"])
def test_a_resumed_run_equals_an_undisturbed_one_bitwise(method, digits, source, tmp_path):
    def kill(epoch, snapshot):
        if epoch == 2:
            torch.save(snapshot(), tmp_path / "state.pt")
            raise KillError

    (undisturbed,) = train([run(method)], digits, source, device=CPU)
    with pytest.raises(KillError):
        train([run(method)], digits, source, device=CPU, on_epoch=kill)
    states = torch.load(tmp_path / "state.pt", weights_only=True)
    (resumed,) = train([run(method)], digits, source, device=CPU, states=states)
    assert resumed.metrics == undisturbed.metrics


@pytest.mark.parametrize("method", ["scratch", "ufm", "l2t_www"])
def test_a_run_is_the_same_bitwise_alone_and_beside_any_neighbours(method, digits, source):
    """K = 1 and 3, at either end, beside other rates, and beside a run that diverges."""
    wanted = run(method, seed=1)
    packs = [
        [wanted],
        [wanted, run(method, seed=2), run(method, seed=3)],
        [run(method, seed=4, lr=0.02, momentum=0.5), run(method, seed=5, lr=1e30), wanted],
    ]
    found = []
    for runs in packs:
        snapshots = []
        outcomes = train(runs, digits, source, device=CPU, on_epoch=lambda _, take, to=snapshots: to.append(take()))
        place = runs.index(wanted)
        found.append((outcomes[place].metrics, snapshots[-1][place]))
    (metrics, alone), *others = found
    for their_metrics, theirs in others:
        assert their_metrics == metrics
        for group in ("theta", "buffers", "phi", "moments", "statistics"):
            assert all(torch.equal(tensor, theirs[group][name]) for name, tensor in alone[group].items()), group


def test_seconds_are_each_runs_own_though_it_goes_on_in_another_pack(digits, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("l2t_ray.training.pack.time.perf_counter", lambda: clock[0])
    runs = [run(seed=seed) for seed in range(4)]
    four = Pack(runs, digits, None, CPU)
    clock[0] += 100
    states = four.snapshot()
    alone = Pack(runs[:1], digits, None, CPU)
    alone.restore(states[:1])
    clock[0] += 10
    assert [outcome.wall_s for outcome in alone.outcomes()] == [25 + 10]
    again = Pack(runs, digits, None, CPU)
    again.restore([*alone.snapshot(), *states[1:]])
    clock[0] += 8
    assert [outcome.wall_s for outcome in again.outcomes()] == [35 + 2, *[25 + 2] * 3]


def test_a_pack_is_gone_when_nobody_holds_it(digits):
    """Without waiting for Python to look for circles: the next pack wants its memory."""
    gc.disable()
    try:
        pack = Pack([run()], digits, None, CPU)
        pack.train_epoch(0)
        seen = weakref.ref(pack)
        del pack
        assert seen() is None
    finally:
        gc.enable()


def test_images_are_not_copied_for_a_method_that_prepares_nothing(digits):
    class Floats(TorchDispatchMode):
        n_made = 0

        def __torch_dispatch__(self, operation, types, arguments=(), settings=None):
            self.n_made += 1
            return operation(*arguments, **(settings or {}))

    pack = Pack([run()], digits, None, CPU)
    with Floats() as seen:
        pack.prepare()
    assert seen.n_made == 0


def test_the_train_loss_is_the_mean_over_images_also_where_the_last_batch_is_small(digits, monkeypatch):
    def step(self, images, labels, lr):  # a loss of as much as the batch has images: 8, then 4
        return torch.full_like(lr, len(images)), torch.zeros_like(lr)

    monkeypatch.setattr(Learner, "step", step)
    (outcome,) = train([run(epochs=1)], digits, None, device=CPU)
    assert outcome.metrics["train_loss"] == [(1, pytest.approx((8 * 8 + 4 * 4) / 12))]


def test_a_diverged_run_has_no_metric_from_its_end_on(digits, monkeypatch):
    epochs = []

    def finite(self):
        epochs.append(self.run.seed)
        return torch.tensor(epochs != [0, 1, self.run.seed] or self.run.seed == 1)

    monkeypatch.setattr(Learner, "finite", finite)
    ended, whole = train([run(), run(seed=1)], digits, None, device=CPU)
    assert ended.reason == "a parameter is not finite in epoch 2"
    assert {epoch for points in ended.metrics.values() for epoch, _ in points} == {1}
    assert [epoch for epoch, _ in whole.metrics["train_loss"]] == [1, 2, 3]


def test_divergence_ends_its_own_run_alone(digits):
    wild, tame = run(lr=1e30), run(seed=1)
    outcomes = train([wild, tame], digits, None, device=CPU)
    assert [o.status for o in outcomes] == ["diverged", "finished"]
    assert "not finite in epoch" in outcomes[0].reason
    assert "test_accuracy_percent" in outcomes[1].metrics


@pytest.mark.parametrize(
    ("variance", "told"),
    [(math.inf, "a running statistic is not finite in epoch 1"), (-1.0, "a prediction is not finite in epoch 2")],
    ids=["infinite variance", "negative variance"],
)
def test_a_run_that_cannot_predict_has_diverged_though_its_parameters_are_finite(digits, monkeypatch, variance, told):
    """In training, batch norm takes the batch's own statistics: loss and parameters stay finite."""
    step = Learner.step

    def spoil(self, *given):
        found = step(self, *given)
        self.statistics["var.0"].fill_(variance)
        return found

    monkeypatch.setattr(Learner, "step", spoil)
    (outcome,) = train([run()], digits, None, device=CPU)
    assert (outcome.status, outcome.reason) == ("diverged", told)
    assert "test_accuracy_percent" not in outcome.metrics


def test_runs_of_one_pack_differ_in_seed_and_scalars_alone():
    registry.load()
    assert pack_shape(run(seed=0, lr=0.1)) == pack_shape(run(seed=5, lr=0.3))
    assert pack_shape(run(epochs=2)) != pack_shape(run(epochs=3))
    assert pack_shape(run("ufm")) != pack_shape(run("scratch"))


def test_evaluations_are_spread_evenly_and_end_with_the_last_epoch():
    assert sorted(evaluation_epochs(200, 3)) == [50, 100, 150, 200]
    assert sorted(evaluation_epochs(200, 0)) == [200]
    assert sorted(evaluation_epochs(3, 10)) == [1, 2, 3]


def test_learning_rate_is_the_thesis_cosine():
    assert learning_rate(0.1, 0, 200) == pytest.approx(0.1)
    assert learning_rate(0.1, 100, 200) == pytest.approx(0.05)
    assert 0 < learning_rate(0.1, 199, 200) < 1e-5


def test_training_learns_the_digits(digits):
    (outcome,) = train([run(epochs=30, lr=0.05)], digits, None, device=CPU)
    assert outcome.metrics["test_accuracy_percent"][-1][1] > 80  # chance is 33
