"""The rivals' losses, gates, starts and stages against slow twins and closed forms."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from l2t_ray import registry
from l2t_ray.config import Source
from l2t_ray.data.streams import stream
from l2t_ray.methods import Batch, Stage, hint, paraphraser
from l2t_ray.models import build, initialise
from l2t_ray.models.spottuned import straight_through
from tests.support import oracles
from tests.support.rival_runs import WIDTH, B, N, draw, learner, run, source


def batch(source_sizes=(32, 16, 8), target_sizes=(32, 16, 8, 4, 2), **more):
    return Batch(
        source=[draw(B, 3 + i, s, s, seed=i) for i, s in enumerate(source_sizes)],
        target=[draw(B, 4 + i, s, s, seed=10 + i) for i, s in enumerate(target_sizes)],
        logits=draw(B, N, seed=20),
        labels=torch.tensor([0, 2, 1, 1]),
        **more,
    )


def method(name):
    return registry.METHODS[name]


# losses


def test_attention_transfer_is_the_papers_equation_2():
    given = batch()
    small = replace(given, source=given.source[1:], target=given.target[1:3])  # 16 and 8 pixels: the twin is slow
    found = method("attention_transfer").loss({}, small, method("attention_transfer").options)
    assert float(found) == pytest.approx(oracles.attention_distance(small.source, small.target, 1000), rel=1e-10)


def test_attention_of_equal_maps_costs_nothing_whatever_their_scale_and_number_of_channels():
    given = batch()
    same = [torch.cat([3 * s, -3 * s], 1) for s in given.source]
    assert (
        float(method("attention_transfer").loss({}, replace(given, target=same), {"beta": 1.0, "power": 2.0})) < 1e-20
    )


@pytest.mark.parametrize(("temperature", "alpha"), [(4.0, 0.9), (1.0, 0.3), (20.0, 1.0)])
def test_distillation_is_hintons_weighted_sum(temperature, alpha):
    given = batch(source_logits=draw(B, N, seed=30))
    added = method("distillation").loss({}, given, {"temperature": temperature, "alpha": alpha})
    whole = float(F.cross_entropy(given.logits, given.labels) + added)
    expected = oracles.distillation_loss(given.logits, given.source_logits, given.labels, temperature, alpha)
    assert whole == pytest.approx(expected, rel=1e-10)


def test_the_source_speaks_of_the_targets_classes_in_their_order():
    """The source has learned 2, 1, 0, 9, 8; the target learns 0, 1, 2."""
    seen = []

    class Spy(type(method("distillation"))):
        def loss(self, extra, batch, options):
            seen.append(batch.source_logits)

    registry.register(Spy("spy", uses=frozenset({"source"}), options=method("distillation").options))
    teacher, images = source(torch.float64), draw(B, 3, 32, 32)
    spied = learner(run("spy", arch="vgg9", precision="float64"), given=teacher)
    spied.step(images, torch.zeros(B, dtype=torch.long), torch.ones(()))
    torch.testing.assert_close(seen[0], teacher(images)[:, [2, 1, 0]])


def test_hint_regresses_the_middle_level_and_then_distils():
    options = {**method("hint").options, "distil": True}
    given = batch(source_logits=draw(B, N, seed=30))
    weights = {"hint.weight": draw(4, 5, 1, 1, seed=40), "hint.bias": draw(4, seed=41)}
    predicted = torch.einsum("oi,bihw->bohw", weights["hint.weight"][..., 0, 0], given.target[1])
    predicted = predicted + weights["hint.bias"][:, None, None]
    first = method("hint").loss(weights, given, options)
    assert float(first) == pytest.approx(float(((given.source[1] - predicted) ** 2).sum() / (2 * B * 4 * 16**2)))
    second = method("hint").loss(weights, replace(given, progress=0.75), options)
    expected = 0.0  # H(source, target) at 3; lambda is half way from 4 to 1
    for z, s in zip(given.logits.tolist(), given.source_logits.tolist(), strict=True):
        p, q = oracles.soft_probabilities(s, 3.0), oracles.soft_probabilities(z, 3.0)
        expected -= 2.5 * sum(a * math.log(b) for a, b in zip(p, q, strict=True)) / B
    assert float(second) == pytest.approx(expected, rel=1e-10)
    assert method("hint").loss(weights, replace(given, progress=0.5), method("hint").options) is None


def test_a_regressor_without_padding_brings_larger_guided_maps_to_the_hints_size():
    registry.load()
    wanted = run("hint", source_level=2, target_level=1, precision="float64")
    found = learner(wanted)
    assert found.theta["hint.weight"].shape == (8, 16, 9, 9)  # 16 - 9 + 1 = 8 pixels
    images = draw(B, 3, 32, 32)
    found.step(images, torch.zeros(B, dtype=torch.long), torch.ones(()))


@pytest.mark.parametrize("p", [1, 2])
def test_factor_transfer_is_the_papers_equation_3(p):
    given = batch(target_sizes=(8,), source_sizes=(8,))
    encoder = paraphraser.draw_convolutions("encoder", [3, 3, 2, 2], stream(0, "a"))
    translator = paraphraser.draw_convolutions("translator", [4, 4, 2, 2], stream(0, "b"))
    encoder, translator = ({n: w.double() for n, w in side.items()} for side in (encoder, translator))
    factors = []
    for name, weights, maps in (("translator", translator, given.target[0]), ("encoder", encoder, given.source[0])):
        x = maps
        for layer in range(3):
            z = F.conv2d(x, weights[f"{name}.{layer}.weight"], weights[f"{name}.{layer}.bias"], padding=1)
            x = torch.where(z > 0, z, 0.1 * z)
        factors.append(x)
    found = method("factor_transfer").loss(translator, replace(given, frozen=encoder), {"p": p, "beta": 500.0})
    assert float(found) == pytest.approx(500 * oracles.factors_distance(*factors, p), rel=1e-10)


def test_the_paraphraser_is_trained_as_torch_trains_an_autoencoder():
    """torch.optim.SGD on torch.nn modules, the same batches; the labels are never asked for."""
    maps, options = draw(6, 4, 8, 8).relu(), {"paraphraser_steps": 4, "paraphraser_lr": 0.1}
    drawn = paraphraser.draw_convolutions("encoder", [4, 4, 2, 2], stream(0, "a"))
    drawn |= paraphraser.draw_convolutions("decoder", [2, 2, 4, 4], stream(0, "b"))
    drawn = {name: w.double() for name, w in drawn.items()}
    layers = []
    for name in ("encoder", "decoder"):
        for layer in range(3):
            weight, bias = drawn[f"{name}.{layer}.weight"], drawn[f"{name}.{layer}.bias"]
            conv = torch.nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1).double()
            conv.load_state_dict({"weight": weight, "bias": bias})
            layers += [conv, torch.nn.LeakyReLU(0.1)]
    twin = torch.nn.Sequential(*layers)
    optimizer = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    g = stream(0, "c")
    for _ in range(2):  # epochs of two batches
        for rows in torch.randperm(6, generator=g).split(3):
            optimizer.zero_grad()
            F.l1_loss(twin(maps[rows]), maps[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        found = paraphraser.train_paraphraser(drawn, maps, 3, options, stream(0, "c"))
    for ours, theirs in zip(found.values(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-10, atol=1e-12)


def test_factor_transfer_moves_the_target_beyond_cross_entropy():
    images, labels = draw(B, 3, 32, 32), torch.tensor([0, 1, 2, 1])
    moved = {}
    for name in ("scratch", "factor_transfer"):
        wanted = run(name, arch="vgg9", precision="float64")
        found = learner(wanted)
        found.prepare(images)
        found.step(images, labels, torch.tensor(0.1, dtype=torch.float64))
        moved[name] = found.theta["conv.2.weight"]
    assert not torch.allclose(moved["scratch"], moved["factor_transfer"])


# SpotTune


def test_gates_are_the_larger_noisy_score_with_the_gradient_of_the_softmax():
    scores, draws = draw(B, 5, 2).requires_grad_(), torch.rand(B, 10, generator=stream(0, "u"), dtype=torch.float64)
    gates = straight_through(scores, draws, 5.0)
    noisy = scores.detach() - torch.log(-torch.log(draws.view(B, 5, 2)))
    torch.testing.assert_close(gates.detach(), noisy.argmax(-1).double(), rtol=0, atol=1e-12)
    (found,) = torch.autograd.grad(gates.sum(), scores)
    p = torch.sigmoid((noisy[..., 1] - noisy[..., 0]) / 5)  # softmax of two
    torch.testing.assert_close(found[..., 1], p * (1 - p) / 5)
    torch.testing.assert_close(found[..., 0], -p * (1 - p) / 5)
    torch.testing.assert_close(straight_through(scores, None, 5.0), scores.argmax(-1).double())


def test_gumbel_gates_are_drawn_with_the_softmax_of_the_scores():
    """Gumbel-max: P(tuned) = sigmoid(s_1 - s_0), here 0.731; 20,000 draws have a standard error of 0.003."""
    scores = torch.tensor([0.0, 1.0]).expand(20000, 1, 2)
    gates = straight_through(scores, torch.rand(20000, 2, generator=stream(0, "u")), 5.0)
    assert float(gates.mean()) == pytest.approx(1 / (1 + math.exp(-1)), abs=0.012)


def test_an_image_takes_the_blocks_that_its_gates_say():
    """The whole network against a twin that builds every image's own; and no gradient reaches a frozen block."""
    registry.load()
    given = source(torch.float64)
    found = learner(run("spottune", precision="float64"), given=given)
    images = draw(B, 3, 32, 32)
    theta = {name: p + 0.1 * draw(*p.shape) for name, p in found.theta.items()}
    draws = torch.rand(B, found.network.n_draws, generator=stream(0, "u"), dtype=torch.float64)
    values = found.network.forward(theta, images, draws=draws)
    policy = found.network._training.network.policy
    scores = torch.func.functional_call(
        policy, {name.removeprefix("policy."): p for name, p in theta.items() if name.startswith("policy.")}, (images,)
    )
    gates = straight_through(scores.view(B, 9, 2), draws, 5.0).detach().round()
    assert 0 < float(gates.mean()) < 1
    expected = oracles.spottuned(theta, given, gates, images)
    torch.testing.assert_close(values.logits, expected, rtol=1e-8, atol=1e-9)


def test_the_policy_moves_at_its_own_rate():
    """One step of plain SGD: a tenth of the rate is a tenth of the way."""
    registry.load()
    moved = []
    for rate in (1.0, 0.1, 0.0):
        found = learner(run("spottune", precision="float64", policy_rate=rate))
        before = {name: p.clone() for name, p in found.theta.items()}
        found.step(draw(B, 3, 32, 32), torch.tensor([0, 1, 2, 1]), torch.tensor(0.1, dtype=torch.float64))
        moved.append({name: p - before[name] for name, p in found.theta.items()})
    for name, whole in moved[0].items():
        share = 0.1 if name.startswith("policy.") else 1.0
        torch.testing.assert_close(moved[1][name], share * whole, rtol=1e-9, atol=1e-15)
        assert not name.startswith("policy.") or not moved[2][name].any()
    assert any(p.any() for name, p in moved[0].items() if name.startswith("policy."))


# starts and stages


@pytest.mark.parametrize("arch", ["resnet20", "vgg9", "vit"])
def test_fine_tuning_starts_as_the_source_with_a_new_classifier(arch):
    registry.load()
    given = build(arch, WIDTH, 5).double()
    initialise(given, stream(4, "init"))
    given(draw(B, 3, 32, 32))  # running statistics that are not the initial ones
    given.requires_grad_(False).eval()
    wanted = run("finetune", arch=arch, precision="float64")
    wanted = wanted.model_copy(update={"source": Source(arch=arch, width=WIDTH)})
    found, images = learner(wanted, given=given), draw(B, 3, 32, 32, seed=5)
    given.fc = torch.nn.Linear(given.fc.in_features, N).double()
    given.fc.load_state_dict({"weight": found.theta["fc.weight"], "bias": found.theta["fc.bias"]})
    with torch.no_grad():
        torch.testing.assert_close(found.predict(images), given(images), rtol=1e-9, atol=1e-10)
    fresh = build(arch, WIDTH, N)
    initialise(fresh, stream(0, "init"))
    assert found.theta["fc.weight"].std() > 0
    if arch != "vgg9":  # the classifier is the one that scratch with this seed has
        torch.testing.assert_close(found.theta["fc.weight"].float(), fresh.fc.weight.detach())


def test_fine_tuning_at_rate_0_trains_the_classifier_alone():
    registry.load()
    found = learner(run("finetune", precision="float64", rate=0.0))
    before = {name: p.clone() for name, p in found.theta.items()}
    found.step(draw(B, 3, 32, 32), torch.tensor([0, 1, 2, 1]), torch.tensor(0.1, dtype=torch.float64))
    assert {name for name, p in found.theta.items() if not torch.equal(p, before[name])} == {"fc.weight", "fc.bias"}


def test_hint_trains_the_lower_levels_first_and_never_the_regressor_again():
    registry.load()
    found = learner(run("hint", precision="float64", epochs=2))

    def step(epoch):
        before = {name: p.clone() for name, p in found.theta.items()}
        found.begin_epoch(epoch)
        found.step(draw(B, 3, 32, 32), torch.tensor([0, 1, 2, 1]), torch.tensor(0.1, dtype=torch.float64))
        return {name for name, p in found.theta.items() if not torch.equal(p, before[name])}

    guided = {
        f"{kind}.{i}.{part}" for i in (0, 1) for kind, part in (("conv", "weight"), ("bn", "weight"), ("bn", "bias"))
    }
    assert step(0) == guided | {"hint.weight", "hint.bias"}
    assert step(1) == set(found.theta) - {"hint.weight", "hint.bias"}


def test_of_two_rates_the_more_particular_one_counts():
    stage = Stage(rates={"": 0.5, "fc.": 1.0, "fc.bias": 0.0})
    assert [stage.rate(name) for name in ("conv.0.weight", "fc.weight", "fc.bias")] == [0.5, 1.0, 0.0]
    assert Stage().rate("fc.bias") == 1.0


def test_levels_of_the_hint_are_the_middle_of_those_of_equal_size():
    options = {"source_level": -1, "target_level": -1}
    assert hint.levels(options, (32, 16, 8), (32, 16, 8, 4, 2)) == (1, 1)
    assert hint.levels(options, (32, 16, 8), (8,) * 6) == (2, 5)
    assert hint.levels({"source_level": 2, "target_level": 1}, (32, 16, 8), (32, 16, 8)) == (2, 1)
