"""L2-SP, BSS, StochNorm, Co-Tuning and DELTA against their papers' formulas, written out slowly."""

import pytest
import torch
from torch.nn import functional as F

from l2t_ray import registry
from l2t_ray.config import Source, Target
from l2t_ray.data.streams import stream
from l2t_ray.errors import InputError
from l2t_ray.methods import Batch, delta
from l2t_ray.models import BatchNorm, build
from tests.support import oracles
from tests.support.rival_runs import CLASSES, WIDTH, B, N, draw, learner, run, source

LABELS = torch.tensor([0, 2, 1, 1])
LR = torch.tensor(0.1, dtype=torch.float64)
NEW = ("l2_sp", "bss", "stochnorm", "co_tuning", "delta")


def method(name):
    return registry.METHODS[name]


def decaying(wanted, weight_decay):
    training = wanted.training.model_copy(update={"weight_decay": weight_decay, "momentum": 0.0})
    return wanted.model_copy(update={"training": training})


def studied(found, images, labels=LABELS):
    """Two batches of unequal size."""
    found.study(lambda: [(images[:3], labels[:3]), (images[3:], labels[3:])])
    return found


def moved(found, images):
    """What one step adds to each parameter."""
    before = {name: p.clone() for name, p in found.theta.items()}
    found.step(images, LABELS, LR)
    return {name: p - before[name] for name, p in found.theta.items()}


# L2-SP


def test_l2_sp_descends_equation_4_and_no_other_decay():
    registry.load()
    found = learner(decaying(run("l2_sp", precision="float64", alpha=0.3, beta=0.07), 0.5))
    first = {name: p.detach() for name, p in source(torch.float64).named_parameters()}
    for i, p in enumerate(found.theta.values()):
        p.add_(0.1 * draw(*p.shape, seed=i))
    theta = {name: p.clone().requires_grad_() for name, p in found.theta.items()}
    images = draw(B, 3, 32, 32)
    with torch.enable_grad():
        loss = oracles.l2_sp_loss(theta, first, images, LABELS, 0.3, 0.07)
    gradients = torch.autograd.grad(loss, list(theta.values()))
    for (name, step), gradient in zip(moved(found, images).items(), gradients, strict=True):
        torch.testing.assert_close(step, -0.1 * gradient, rtol=1e-8, atol=1e-10, msg=name)


def test_l2_sp_of_accumulated_parts_decays_once():
    registry.load()
    whole = decaying(run("l2_sp", precision="float64", alpha=0.3, beta=0.07), 0.0)
    split = whole.model_copy(update={"training": whole.training.model_copy(update={"accumulate": 2})})
    plain = [run("finetune", precision="float64")]
    plain.append(plain[0].model_copy(update={"training": split.training}))
    steps = []
    for one in (whole, split, *(decaying(p, 0.0) for p in plain)):
        found = learner(one)
        for i, p in enumerate(found.theta.values()):
            p.add_(0.1 * draw(*p.shape, seed=i))
        steps.append(moved(found, draw(B, 3, 32, 32))["conv1.weight"])
    torch.testing.assert_close(steps[0] - steps[2], steps[1] - steps[3], rtol=1e-8, atol=1e-12)
    assert (steps[0] - steps[2]).abs().max() > 1e-4


# BSS


@pytest.mark.parametrize(("n_images", "k"), [(4, 1), (4, 3), (12, 2)])
def test_bss_adds_the_smallest_eigenvalues_of_the_features_gram_matrix(n_images, k):
    """8 features of 4 or 12 images: four singular values, and eight."""
    features = draw(n_images, 8, seed=3)
    given = Batch(
        source=[], target=[draw(n_images, 2, 4, 4), features[..., None, None]], logits=features, labels=LABELS
    )
    found = method("bss").loss({}, given, {"eta": 0.7, "k": k})
    assert float(found) == pytest.approx(0.7 * float(oracles.smallest_squares(features, k)), rel=1e-9)


def test_bss_reaches_the_network_through_what_the_classifier_takes():
    registry.load()
    images, steps = draw(B, 3, 32, 32), {}
    for eta in (0.0, 0.5):
        found = learner(decaying(run("bss", precision="float64", eta=eta, k=2), 0.0))
        theta = {name: p.clone().requires_grad_() for name, p in found.theta.items()}
        steps[eta] = moved(found, images)
    with torch.enable_grad():
        features = oracles.resnet(theta, images)[0][-1].mean((2, 3))
        loss = 0.5 * oracles.smallest_squares(features, 2)
    names = [name for name in theta if not name.startswith("fc.")]
    gradients = torch.autograd.grad(loss, [theta[name] for name in names])
    for name, gradient in zip(names, gradients, strict=True):
        torch.testing.assert_close(steps[0.5][name] - steps[0.0][name], -0.1 * gradient, rtol=1e-6, atol=1e-9, msg=name)


# StochNorm


class SlowNorm(torch.nn.Module):
    """A norm of the source whose coins lie."""

    def __init__(self, norm, heads):
        super().__init__()
        self.weight, self.bias, self.heads = norm.weight, norm.bias, heads
        self.mean, self.var = norm.running_mean.clone(), norm.running_var.clone()

    def forward(self, z):
        return oracles.stochastic_norm(z, self.heads, self.mean, self.var, self.weight, self.bias)


@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_a_coin_for_each_channel_chooses_batch_or_running_statistics(p):
    """One step against autograd through a slow twin; the running statistics move as batch norm's do."""
    registry.load()
    given, images = source(torch.float64), draw(B, 3, 32, 32)
    found = learner(decaying(run("stochnorm", precision="float64", p=p), 0.0), given=given)
    norms = [(name, part) for name, part in given.named_modules() if isinstance(part, BatchNorm)]
    n_channels = [norm.num_features for _, norm in norms]
    draws = torch.rand(B, sum(n_channels), generator=stream(0, "draws", 0))[0]
    for (name, norm), own in zip(norms, draws.split(n_channels), strict=True):
        above, _, last = name.rpartition(".")
        setattr(given.get_submodule(above), last, SlowNorm(norm, (own < p).tolist()))
    before = {name: values.clone() for name, values in found.statistics.items()}
    given.fc = torch.nn.Linear(given.fc.in_features, N).double()
    given.fc.load_state_dict({"weight": found.theta["fc.weight"], "bias": found.theta["fc.bias"]})
    given.requires_grad_(True)
    with torch.enable_grad():
        F.cross_entropy(given(images), LABELS).backward()
    steps = moved(found, images)
    for name, parameter in given.named_parameters():
        torch.testing.assert_close(steps[name], -0.1 * parameter.grad, rtol=1e-7, atol=1e-10, msg=name)
    z = F.conv2d(images, given.conv1.weight.detach(), given.conv1.bias.detach(), padding=1)
    expected = 0.9 * before["mean.bn1"] + 0.1 * z.mean((0, 2, 3))
    torch.testing.assert_close(found.statistics["mean.bn1"], expected, rtol=1e-9, atol=1e-12)


# Co-Tuning


def test_the_relation_is_the_mean_softmax_of_each_class_and_the_sources_classifier_is_trained_on_it():
    registry.load()
    given, images = source(torch.float64), draw(B, 3, 32, 32)
    found = studied(learner(run("co_tuning", precision="float64"), given=given), images)
    relation = oracles.category_relation(given(images), LABELS.tolist(), N)
    torch.testing.assert_close(found.frozen["relation"], torch.tensor(relation, dtype=torch.float64))
    second = draw(B, 5, seed=7)
    batch = Batch(source=[], target=[second[..., None, None]], logits=draw(B, N), labels=LABELS, frozen=found.frozen)
    loss = method("co_tuning").loss({}, batch, {"weight": 2.3})
    assert float(loss) == pytest.approx(oracles.co_tuning_loss(relation, second, LABELS.tolist(), 2.3), rel=1e-10)
    shares = F.one_hot(LABELS, N).double()
    mixed = Batch(source=[], target=batch.target, logits=batch.logits, labels=shares, frozen=found.frozen)
    assert float(method("co_tuning").loss({}, mixed, {"weight": 2.3})) == pytest.approx(float(loss))


def test_co_tuning_moves_both_classifiers_as_autograd_says():
    registry.load()
    given, images = source(torch.float64), draw(B, 3, 32, 32)
    found = studied(learner(decaying(run("co_tuning", precision="float64"), 0.0), given=given), images)
    assert torch.equal(found.theta["second.weight"], given.fc.weight)
    theta = {name: p.clone().requires_grad_() for name, p in found.theta.items()}
    with torch.enable_grad():
        maps, logits = oracles.resnet(theta, images)
        second = F.linear(maps[-1].mean((2, 3)), theta["second.weight"], theta["second.bias"])
        wanted = found.frozen["relation"][LABELS]
        loss = F.cross_entropy(logits, LABELS) + 2.3 * F.cross_entropy(second, wanted)
    gradients = torch.autograd.grad(loss, list(theta.values()))
    for (name, step), gradient in zip(moved(found, images).items(), gradients, strict=True):
        torch.testing.assert_close(step, -0.1 * gradient, rtol=1e-7, atol=1e-10, msg=name)


# DELTA


def test_delta_weighs_the_distance_of_maps_by_channel():
    maps = [[draw(2, 3, 4, 4, seed=i), draw(2, 5, 2, 2, seed=i + 1)] for i in (0, 7)]
    attention = [[0.2, 0.5, 0.3], [0.1, 0.1, 0.4, 0.2, 0.2]]
    frozen = {f"attention.{m}": torch.tensor(w, dtype=torch.float64) for m, w in enumerate(attention)}
    given = Batch(source=maps[0], target=maps[1], logits=draw(2, N), labels=LABELS[:2], frozen=frozen)
    found = method("delta").loss({}, given, {"alpha": 0.48})
    assert float(found) == pytest.approx(0.48 * oracles.maps_kept(*maps, attention), rel=1e-10)


def test_channel_weights_are_the_softmax_of_a_fifth_of_the_standardised_rise():
    rises = [0.1, -0.3, 2.0, 0.4]
    found = delta.attention(torch.tensor(rises, dtype=torch.float64)).tolist()
    assert found == pytest.approx(oracles.channel_attention(rises), rel=1e-12)
    assert found[2] == max(found)  # the filter that the source needs most
    assert delta.attention(torch.zeros(4)).tolist() == pytest.approx([0.25] * 4)


def test_a_filters_rise_is_the_slope_of_the_sources_loss_as_the_filter_fades():
    """Central differences of the loss with a channel of a level's map at 1 - h and 1 + h of its strength."""
    given, images = source(torch.float64), draw(B, 3, 32, 32)
    batches = [(images[:3], LABELS[:3]), (images[3:], LABELS[3:])]
    found = delta.loss_increases(given, lambda: batches, N, 0.01)
    features = given.outputs(images)[0][-1].mean((2, 3))
    weight, bias = delta.fit_classifier(features, LABELS, N, 0.01)

    def loss(level, channel, strength):
        x = F.relu(given.bn1(given.conv1(images)))
        for m, stage in enumerate(given.stages):
            x = stage(x)
            if m == level:
                x = x.clone()
                x[:, channel] *= strength
        return float(F.cross_entropy(F.linear(x.mean((2, 3)), weight, bias), LABELS))

    h = 1e-5
    for level, rises in enumerate(found):
        for channel, rise in enumerate(rises.tolist()):
            slope = (loss(level, channel, 1 - h) - loss(level, channel, 1 + h)) / (2 * h)
            assert rise == pytest.approx(slope, rel=1e-4, abs=1e-8), (level, channel)
    assert max(float(r.abs().max()) for r in found) > 1e-4


def test_the_sources_classifier_is_where_its_decayed_loss_is_flat():
    features = draw(B, 8, seed=3)
    weight, bias = (w.requires_grad_() for w in delta.fit_classifier(features, LABELS, N, 0.05))
    with torch.enable_grad():
        loss = F.cross_entropy(F.linear(features, weight, bias), LABELS)
        loss = loss + 0.05 / 2 * ((weight**2).sum() + (bias**2).sum())
    for gradient in torch.autograd.grad(loss, [weight, bias]):
        assert float(gradient.abs().max()) < 1e-5


def test_delta_moves_as_autograd_says():
    registry.load()
    given, images = source(torch.float64), draw(B, 3, 32, 32)
    found = learner(decaying(run("delta", precision="float64", alpha=3.0, beta=0.2), 0.5), given=given)
    studied(found, images)
    for i, p in enumerate(found.theta.values()):
        p.add_(0.1 * draw(*p.shape, seed=i))
    theta = {name: p.clone().requires_grad_() for name, p in found.theta.items()}
    with torch.enable_grad():
        maps, logits = oracles.resnet(theta, images)
        loss = F.cross_entropy(logits, LABELS)
        loss = loss + 0.1 * (theta["fc.weight"].square().sum() + theta["fc.bias"].square().sum())
        for m, (t, s) in enumerate(zip(maps, given.features(images), strict=True)):
            weights = found.frozen[f"attention.{m}"][:, None, None]
            scale = s.shape[1] / (2 * s.shape[-1] ** 2 * B)
            loss = loss + 3 * scale * (weights * (t - s) ** 2).sum()
    gradients = torch.autograd.grad(loss, list(theta.values()))
    for (name, step), gradient in zip(moved(found, images).items(), gradients, strict=True):
        torch.testing.assert_close(step, -0.1 * gradient, rtol=1e-7, atol=1e-10, msg=name)


# every network


@pytest.mark.parametrize(
    "arch", ["vgg9", "vit", "resnet18", "vgg16_bn", "mobilenet_v3_small", "convnext_tiny", "vit_b_16"]
)
@pytest.mark.parametrize("name", NEW)
@pytest.mark.usefixtures("narrow")
def test_a_network_trains_and_tests_or_is_refused_in_a_line(name, arch):
    registry.load()
    size = 64 if arch in registry.ZOO else 32
    given = build(arch, 1.0 if arch in registry.ZOO else WIDTH, 5, size)
    given.redraw(stream(4, "init"))
    given = given.requires_grad_(False).eval()
    given.classes = ("a", "b", "c", "d", "e")
    wanted = run(name, arch="resnet20")
    wanted = wanted.model_copy(
        update={
            "source": Source(arch=arch, width=given.width),
            "target": Target(arch=arch, width=given.width),
            "data": wanted.data.model_copy(update={"image_size": size}),
        }
    )
    refused = {"stochnorm": ("vit", "convnext_tiny", "vit_b_16"), "delta": ("vit", "vit_b_16")}.get(name, ())
    if arch in refused:
        with pytest.raises(
            InputError, match=f"target.arch must be a network (with|of) .* for {name}, got {arch}; name"
        ):
            learner(wanted, torch.float32, given)
        return
    images = draw(B, 3, size, size).float()
    found = studied(learner(wanted, torch.float32, given), images)
    before = {n: p.clone() for n, p in found.theta.items()}
    losses = [found.step(images, LABELS, LR.float())[0] for _ in range(2)]  # a ViT's classifier starts at zero
    assert torch.stack(losses).isfinite().all()
    assert found.finite()
    still = {n for n, p in found.theta.items() if torch.equal(p, before[n])}
    assert "fc.weight" not in still
    assert len(still) < len(before) / 2, still
    assert found.predict(images).shape == (B, N)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: run("l2_sp", alpha=-1.0), "options.alpha must be >= 0, got -1.0"),
        (lambda: run("bss", k=0), "options.k must be >= 1, got 0"),
        (lambda: run("bss", eta=-0.1), "options.eta must be >= 0, got -0.1"),
        (lambda: run("bss", precision="bf16"), "training.precision must be float32, tf32 or float64 for bss, got bf16"),
        (lambda: run("stochnorm", p=1.5), "options.p must be >= 0 and <= 1, got 1.5"),
        (lambda: run("stochnorm", arch="vit"), "target.arch must be a network with batch norm for stochnorm, got vit"),
        (lambda: run("co_tuning", weight=-1.0), "options.weight must be >= 0, got -1.0"),
        (lambda: run("co_tuning", arch="vgg9"), "target.arch must be the source's, resnet20, for co_tuning, got vgg9"),
        (lambda: run("delta", beta=-1.0), "options.beta must be >= 0, got -1.0"),
    ],
)
def test_what_they_cannot_do_is_refused(make, told):
    registry.load()
    with pytest.raises(InputError) as caught:
        learner(make())
    assert told in "; ".join(caught.value.problems)


def test_a_source_without_a_classifier_cannot_be_co_tuned():
    registry.load()
    with pytest.raises(InputError, match="must have a classifier of at least two classes for co_tuning"):
        learner(run("co_tuning"), given=source(classes=CLASSES[:1]))
