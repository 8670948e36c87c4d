"""Identities between the methods, and methods of one's own."""

import math
import re
from dataclasses import dataclass

import pytest
import torch

from l2t_ray import registry
from l2t_ray.data.streams import stream
from l2t_ray.errors import InputError
from l2t_ray.methods import FeatureMatching, Method, Stage
from l2t_ray.models import Traced, build
from l2t_ray.training.learner import Learner
from tests.support.learners import CPU, N_CLASSES, batches, network_of, run, source, trained
from tests.support.places import ROOT

OWN = [ROOT / "docs" / "howto" / name for name in ("own_method.md", "own_network.md")]


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def test_beta_zero_gives_scratch():
    plain, with_zero = trained(run("scratch"))[0], trained(run("l2t_www", beta=0.0))[0]
    torch.testing.assert_close(network_of(with_zero), network_of(plain), rtol=1e-10, atol=1e-12)
    assert not torch.allclose(network_of(trained(run("ufm"))[0]), network_of(plain))


def test_gamma_one_gives_l2t_ww():
    def freeze(learner):
        learner.meta_lr.zero_()

    www, ww = trained(run("l2t_www"), change=freeze)[0], trained(run("l2t_ww"), change=freeze)[0]
    # h starts at ln(e - 1) rounded to float32: gamma is 1 to 2^-24
    torch.testing.assert_close(network_of(www), network_of(ww), rtol=1e-6, atol=1e-9)
    assert not torch.allclose(network_of(trained(run("l2t_www"))[0]), network_of(www), rtol=1e-6, atol=1e-9)


def test_constant_weights_give_ufm():
    def constant(learner):
        learner.meta_lr.zero_()
        for name, p in learner.phi.items():
            p.fill_(1.0 if name.startswith("where") and name.endswith("bias") else 0.0)

    fixed = trained(run("l2t_ww"), change=constant)[0]
    torch.testing.assert_close(network_of(fixed), network_of(trained(run("ufm"))[0]), rtol=1e-10, atol=1e-12)


def test_batch_statistics_change_once_a_step():
    """Running means after one step are those of step 1's forward pass alone: 0.1 times the batch mean."""
    learner = Learner(run("l2t_www"), N_CLASSES, source(), CPU)
    kernel = learner.theta["conv.0.weight"].clone()
    images, labels = next(batches(1))
    learner.step(images, labels, torch.tensor(0.05, dtype=torch.float64))
    z = torch.nn.functional.conv2d(images, kernel, padding=1)
    torch.testing.assert_close(learner.statistics["mean.0"], 0.1 * z.mean((0, 2, 3)))
    torch.testing.assert_close(learner.statistics["var.0"], 0.9 + 0.1 * z.var((0, 2, 3)))


def test_state_restores_bitwise():
    first = trained(run("l2t_www", inner="published"))[0]
    second = Learner(run("l2t_www", inner="published"), N_CLASSES, source(), CPU)
    second.restore(first.state())
    lr = torch.tensor(0.05, dtype=torch.float64)
    batch = next(batches(1))
    assert torch.equal(first.step(*batch, lr)[0], second.step(*batch, lr)[0])
    assert torch.equal(network_of(first), network_of(second))
    assert all(torch.equal(first.phi[name], second.phi[name]) for name in first.phi)


def test_every_builtin_method_is_registered():
    registry.load()
    networks = {n: sorted(m.networks) for n, m in registry.METHODS.items() if isinstance(m, FeatureMatching)}
    assert networks["ufm"] == []
    assert networks["l2t_ww"] == ["what", "where"]
    assert networks["l2t_www"] == ["what", "where", "which"]
    assert registry.METHODS["scratch"].uses == frozenset()


OWN_METHOD = '''
"""Attention transfer (Zagoruyko and Komodakis 2017) on levels of equal size, with a learned temperature."""
from dataclasses import dataclass
import torch
from l2t_ray.methods import Method
from l2t_ray.registry import register

@dataclass(frozen=True)
class AttentionTransfer(Method):
    def extra_parameters(self, run, shapes, generator):
        return {"attention.scale": torch.ones(3)}

    def loss(self, extra, batch, options):
        total = 0
        for m, (s, t) in enumerate(zip(batch.source, batch.target)):
            maps = [f.pow(options["power"]).mean(1).flatten(1) for f in (s, t)]
            normal = [f / f.norm(dim=1, keepdim=True).clamp_min(1e-6) for f in maps]
            total = total + extra["attention.scale"][m] * (normal[0] - normal[1]).pow(2).sum(1).mean()
        return total

register(AttentionTransfer("own_attention", uses=frozenset({"source", "transfer.beta"}), options={"power": 2}))
'''


def test_a_method_of_ones_own_lives_in_one_file(tmp_path):
    file = tmp_path / "my method's file.py"
    file.write_text(OWN_METHOD)
    registry.load([file])
    own, losses = trained(run("own_attention"))
    assert losses.isfinite().all()
    assert not torch.equal(own.theta["attention.scale"], torch.ones_like(own.theta["attention.scale"]))
    plain = trained(run("scratch"))[0]
    assert not torch.allclose(own.theta["conv.0.weight"], plain.theta["conv.0.weight"])
    del registry.METHODS["own_attention"]


DOCUMENTED = [
    found for page in OWN for found in re.findall(r"```python\n# (\w+)\.py\n(.*?)```", page.read_text(), re.DOTALL)
]


@pytest.mark.parametrize(("name", "text"), DOCUMENTED, ids=[name for name, _ in DOCUMENTED])
def test_the_examples_of_the_documents_run_as_they_stand(name, text, tmp_path):
    """docs/howto/own_*.md; each example ends by registering one method."""
    file = tmp_path / f"{name}.py"
    file.write_text(text)
    before = {*registry.METHODS}
    registry.load([file])
    (method,) = {*registry.METHODS} - before
    own, losses = trained(run(method))
    assert losses.isfinite().all()
    plain = trained(run("scratch"))[1]
    assert not torch.equal(losses, plain)
    images, _ = next(batches(1))
    assert own.predict(images).isfinite().all()
    del registry.METHODS[method]


def test_the_documents_have_a_method_and_a_network_of_ones_own():
    assert [name for name, _ in DOCUMENTED] == ["my_method", "my_network"]


@dataclass(frozen=True)
class _MatchingWithLoss(FeatureMatching):
    def loss(self, extra, batch, options):
        return batch.logits.square().mean()


@pytest.mark.parametrize(("kind", "network"), [(_MatchingWithLoss, "what"), (FeatureMatching, "mine")])
def test_what_feature_matching_would_leave_out_is_refused(kind, network):
    with pytest.raises(TypeError, match="own: a FeatureMatching must have networks of what, where, which and no loss"):
        kind("own", networks=frozenset({network}))


@dataclass(frozen=True)
class _LogitPenalty(Method):
    def loss(self, extra, batch, options):
        return batch.logits.square().mean()


def test_gradients_of_an_own_loss_equal_autograd():
    """A penalty on the logits reaches the last layer's bias as 2 logits / (B N), summed over images."""
    registry.register(_LogitPenalty("_penalty", uses=frozenset({"transfer.beta"})))
    lr = torch.tensor(0.05, dtype=torch.float64)
    images, labels = next(batches(1))
    moved = {}
    for method in ("scratch", "_penalty"):
        learner = Learner(run(method), N_CLASSES, None, CPU)
        logits = learner.network.forward(learner.theta, images).logits
        learner.step(images, labels, lr)
        moved[method] = learner.theta["fc.bias"].clone()
    expected = moved["scratch"] - lr * 0.5 * (2 * logits / logits.numel()).sum(0)
    torch.testing.assert_close(moved["_penalty"], expected)
    del registry.METHODS["_penalty"]


@dataclass(frozen=True)
class _Replacing(Method):
    def extra_parameters(self, run, shapes, generator):
        return {"mine": torch.zeros(1), "fc.bias": torch.zeros(shapes.n_classes)}


@dataclass(frozen=True)
class _LossOf(Method):
    give: object = None

    def loss(self, extra, batch, options):
        return self.give(batch)


def test_extra_parameters_with_a_name_of_the_targets_own_are_refused(monkeypatch):
    monkeypatch.setitem(registry.METHODS, "_replacing", _Replacing("_replacing"))
    told = "_replacing: extra_parameters must not have names of the target's own, got fc.bias; choose others"
    with pytest.raises(InputError, match=told):
        Learner(run("_replacing"), N_CLASSES, None, CPU)


@pytest.mark.parametrize(
    ("give", "told"),
    [
        (lambda batch: batch.logits.square().mean(1), "one of shape [8]"),
        (lambda batch: batch.logits, "one of shape [8, 3]"),
        (lambda _: 0, "0"),
    ],
    ids=["a vector", "a matrix", "no tensor"],
)
def test_a_loss_that_is_no_scalar_is_told_with_its_method_and_shape(give, told, monkeypatch):
    monkeypatch.setitem(registry.METHODS, "_wide", _LossOf("_wide", give=give))
    learner = Learner(run("_wide"), N_CLASSES, None, CPU)
    law = f"_wide: loss must return a scalar tensor or None, got {told}; take its mean or sum"
    with pytest.raises(InputError, match=re.escape(law)):
        learner.step(*next(batches(1)), torch.tensor(0.05, dtype=torch.float64))


def _in_place(change):
    def loss(batch):
        with torch.no_grad():
            change(batch)
        return batch.target[1].square().mean()

    return loss


@pytest.mark.parametrize(
    "change",
    [
        lambda batch: batch.target[0].sub_(1),
        lambda batch: batch.target[0].detach()[0].mul_(0),
        lambda batch: batch.logits.clamp_(max=0),
    ],
    ids=["a map", "a view of a map", "the logits"],
)
def test_a_loss_that_changes_the_targets_outputs_is_refused(change, monkeypatch):
    """The network's own gradients would be those of other numbers."""
    monkeypatch.setitem(registry.METHODS, "_changing", _LossOf("_changing", give=_in_place(change)))
    learner = Learner(run("_changing"), N_CLASSES, None, CPU)
    with pytest.raises(InputError, match=re.escape("_changing: loss must not change batch.target and batch.logits")):
        learner.step(*next(batches(1)), torch.tensor(0.05, dtype=torch.float64))


def test_what_a_loss_draws_comes_from_the_runs_seed(monkeypatch):
    noisy = _LossOf("_noisy", give=lambda batch: torch.nn.functional.dropout(batch.logits).square().mean())
    monkeypatch.setitem(registry.METHODS, "_noisy", noisy)
    once, again, other = (network_of(trained(run("_noisy", seed=seed))[0]) for seed in (0, 0, 1))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


@dataclass(frozen=True)
class _Drawing(Method):
    """Draws with torch alone, as nn.Linear does."""

    place: str = ""

    def target(self, run, n_classes, source):
        network = build("resnet20", 0.1, n_classes)
        if self.place == "target":
            network.register_buffer("noise", torch.randn(3))
            network.fc.register_parameter("scale", torch.nn.Parameter(torch.randn(2)))
        return Traced(network)

    def start(self, run, network, source):
        return ({"fc.bias": torch.randn(N_CLASSES)} if self.place == "start" else {}), {}

    def extra_parameters(self, run, shapes, generator):
        head = torch.nn.Linear(2, 2)
        return {"head": head.weight.detach()} if self.place == "extra_parameters" else {}

    def prepare(self, run, shapes, images, features, generator):
        return {"random": torch.randn(2)} if self.place == "prepare" else {}

    def study(self, run, source, batches, n_classes):
        return {"random": torch.randn(2)} if self.place == "study" else {}


@pytest.mark.parametrize("place", ["target", "start", "extra_parameters", "prepare", "study"])
def test_what_a_method_draws_with_torch_comes_from_the_runs_seed(place, monkeypatch):
    """It came from what the process had drawn before, so one seed was several samples."""
    monkeypatch.setitem(registry.METHODS, "_drawing", _Drawing("_drawing", uses=frozenset({"source"}), place=place))

    def drawn(seed):
        learner = Learner(run("_drawing", seed=seed), N_CLASSES, source(), CPU)
        learner.prepare(torch.zeros(2, 3, 32, 32))
        learner.study(lambda: ())
        buffers = learner.network.module.named_buffers()
        return {**learner.theta, **learner.frozen, **dict(buffers)}

    once, again, other = drawn(0), drawn(0), drawn(1)
    assert all(torch.equal(once[name], again[name]) for name in once)
    name = {"target": "fc.scale", "start": "fc.bias", "extra_parameters": "head"}.get(place, "random")
    assert not torch.equal(once[name], other[name])


@pytest.mark.parametrize("what", ["theta", "start"])
def test_a_penalty_that_changes_what_it_is_given_is_refused(what, monkeypatch):
    """`theta[name].sub_(start[name])` moved the parameters themselves."""

    class Changing(Method):
        def start(self, run, network, source):
            return {"fc.bias": torch.zeros(N_CLASSES)}, {}

        def penalty(self, theta, start, options):
            return {"fc.bias": {"theta": theta, "start": start}[what]["fc.bias"].sub_(1)}

    monkeypatch.setitem(registry.METHODS, "_changing", Changing("_changing"))
    learner = Learner(run("_changing"), N_CLASSES, None, CPU)
    with pytest.raises(InputError, match="_changing: penalty must not change theta and start in place"):
        learner.step(*next(batches(1)), torch.tensor(0.05, dtype=torch.float64))


def test_a_loss_that_depends_on_nothing_trained_is_refused(monkeypatch):
    constant = _LossOf("_constant", give=lambda batch: batch.logits.detach().square().mean())
    monkeypatch.setitem(registry.METHODS, "_constant", constant)
    learner = Learner(run("_constant"), N_CLASSES, None, CPU)
    with pytest.raises(InputError, match=r"_constant: loss must depend on .*; leave out detach"):
        learner.step(*next(batches(1)), torch.tensor(0.05, dtype=torch.float64))


@dataclass(frozen=True)
class _Naming(Method):
    given: object = None

    def start(self, run, network, source):
        return {name: torch.zeros(1) for name in self.given.get("theta", ())}, {
            name: torch.zeros(1) for name in self.given.get("statistics", ())
        }

    def penalty(self, theta, start, options):
        return {name: torch.zeros(1) for name in self.given.get("penalty", ())}

    def stage(self, progress, options):
        return Stage(rates=dict.fromkeys(self.given.get("rates", ()), 0.0))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"theta": ["conv.0.wieght"]}, "start must give names that the run has, got 'conv.0.wieght'; did you mean"),
        ({"statistics": ["mean.99"]}, "start must give names that the run has, got 'mean.99'; did you mean"),
        ({"penalty": ["fc.wieght"]}, "penalty must give names that the run has, got 'fc.wieght'; did you mean"),
        ({"rates": ["convolution."]}, "rates of stage must be for the beginnings of parameters' names, got 'convolu"),
    ],
    ids=["start", "running statistics", "penalty", "stage"],
)
def test_names_that_nothing_has_are_refused(given, told, monkeypatch):
    """They had no effect: a run with a misspelt start began at random."""
    monkeypatch.setitem(registry.METHODS, "_naming", _Naming("_naming", given=given))
    with pytest.raises(InputError, match=re.escape(f"_naming: {told}")):
        Learner(run("_naming"), N_CLASSES, None, CPU).step(*next(batches(1)), torch.tensor(0.05, dtype=torch.float64))


def test_the_look_ahead_has_as_many_steps_as_the_run_says():
    """The gradient of phi, and so phi, differs with T."""
    phi = [
        torch.cat([p.flatten() for p in trained(run("l2t_ww", look_ahead_steps=t))[0].phi.values()]) for t in (1, 2, 3)
    ]
    assert not torch.equal(phi[0], phi[1])
    assert not torch.equal(phi[1], phi[2])


def test_every_kind_of_draw_has_a_stream_of_its_own(monkeypatch):
    asked = []
    for module in ("training.learner", "training.start", "data.streams"):
        monkeypatch.setattr(f"l2t_ray.{module}.stream", lambda *a: asked.append(a) or stream(*a))
    Learner(run("l2t_www", seed=3), N_CLASSES, source(), CPU)
    own = [(3, "own.start"), (3, "own.target")]
    assert sorted(asked) == [(3, "draws", 0), (3, "init"), (3, "init.meta"), (3, "init.transfer"), *own]


def test_a_meta_network_that_is_not_finite_is_its_runs_divergence():
    learner, _ = trained(run("l2t_www"), n_steps=1)
    assert learner.finite()
    next(iter(learner.phi.values())).view(-1)[0] = math.nan
    assert not learner.finite()
