"""LoRA against its formula, W + alpha / r B A (Hu et al. 2022, eq. 3), on our transformer and torchvision's."""

import pytest
import torch
from torch.nn import functional as F

from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.models import build
from l2t_ray.training.learner import Learner

registry.load()
N, SIZE, RANK, ALPHA = 3, 32, 2, 6.0
LINEAR = {"vit": 4 * 6, "vit_b_16": 4 * 12}  # layers: two of attention, two of the perceptron, in each block


def run(arch, **more):
    own = {"width": 0.05} if arch == "vit" else {}
    settings = {
        "data": {"name": "digits", "samples_per_class": 2},
        "source": {"arch": arch, **own},
        "target": {"arch": arch, **own},
        "training": {"momentum": 0.0, "weight_decay": 0.0, "precision": "float64"},
        "options": {"rank": RANK, "alpha": ALPHA},
        **more,
    }
    return Run(method="lora", seed=0, **settings)


@pytest.fixture(params=["vit", "vit_b_16"])
def started(request, narrow):
    torch.manual_seed(0)
    source = build(request.param, 0.05 if request.param == "vit" else 1.0, N, SIZE).requires_grad_(False).eval()
    for p in source.parameters():  # torchvision's own classifier and class token start at zero
        p.normal_(0, 0.1)
    learner = Learner(run(request.param), N, source, torch.device("cpu"))
    images, labels = torch.randn(4, 3, SIZE, SIZE, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    return learner, source, images, labels


def effective(learner, source):
    """The formula, with the source's names."""
    theta, found = learner.theta, {}
    for name, w in source.named_parameters():
        layer, _, kind = name.rpartition(".")
        update = f"lora.{layer.replace('.', '-')}"
        if name.startswith("fc."):
            found[name] = theta[name]
        elif f"{update}.a" in theta and kind in {"weight", "in_proj_weight"}:
            found[name] = w + ALPHA / RANK * theta[f"{update}.b"] @ theta[f"{update}.a"]
        else:
            found[name] = w
    return found


def plain(source, parameters, images):
    return torch.func.functional_call(source, parameters, (images,))


def test_it_starts_as_the_source(started):
    learner, source, images, _ = started
    values = learner.network.forward(learner.theta, images)
    maps, _ = source.outputs(images)
    for ours, theirs in zip(values.features, maps, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    n_updated = len([name for name in learner.theta if name.startswith("lora.") and name.endswith(".a")])
    assert n_updated == LINEAR[source.arch]
    assert all(not p.any() for name, p in learner.theta.items() if name.startswith("lora.") and name.endswith(".b"))


def test_steps_train_the_updates_and_the_classifier_by_the_formulas_gradient(started):
    """Three steps of SGD, against autograd through the source's own layers with W + alpha / r B A."""
    learner, source, images, labels = started
    lr = torch.tensor(0.5, dtype=torch.float64)
    before = {name: p.clone() for name, p in learner.theta.items()}
    names = [name for name in learner.theta if name.startswith(("lora.", "fc."))]
    for _ in range(3):
        own = {name: learner.theta[name].clone().requires_grad_() for name in names}
        twin = Twin({**learner.theta, **own})
        loss = F.cross_entropy(plain(source, effective(twin, source), images), labels)
        gradients = dict(zip(names, torch.autograd.grad(loss, [*own.values()]), strict=True))
        expected = {name: own[name].detach() - lr * gradients[name] for name in names}
        found, _ = learner.step(images, labels, lr)
        torch.testing.assert_close(found, loss.detach(), rtol=1e-9, atol=1e-10)
        for name in names:
            torch.testing.assert_close(learner.theta[name], expected[name], rtol=1e-7, atol=1e-9)
    assert all(torch.equal(p, before[name]) for name, p in learner.theta.items() if name.startswith("base."))
    assert all(not torch.equal(learner.theta[name], before[name]) for name in names)
    torch.testing.assert_close(
        learner.predict(images), plain(source, effective(learner, source), images), rtol=1e-9, atol=1e-10
    )


class Twin:
    """Parameters under a learner's name."""

    def __init__(self, theta):
        self.theta = theta


def test_a_is_drawn_within_one_over_the_root_of_the_inputs(started):
    """Kaiming's uniform draw with a = sqrt(5), as in the authors' loralib: a bound of 1 / sqrt(inputs)."""
    learner = started[0]
    for name, a in learner.theta.items():
        if name.startswith("lora.") and name.endswith(".a"):
            assert 0.5 * a.shape[1] ** -0.5 < float(a.abs().max()) <= a.shape[1] ** -0.5


@pytest.mark.parametrize(
    ("arch", "more", "setting", "told"),
    [
        ("resnet18", {}, "target.arch", "must be a vision transformer for lora, .*, got resnet18; name vit, vit_b_16"),
        ("vit", {"source": {"arch": "vit"}}, "target.width", "must be the source's, 1.0, for lora, got 0.05"),
        ("vit", {"options": {"rank": 0}}, "options.rank", "must be >= 1, got 0; correct it"),
        ("vit", {"options": {"alpha": 0.0}}, "options.alpha", "must be > 0, got 0.0; correct it"),
        ("vit_b_16", {"training": {"recompute": True}}, "training.recompute", "must be false for lora, got true"),
    ],
)
def test_settings_that_do_not_suit_are_refused(arch, more, setting, told):
    found = dict(registry.METHODS["lora"].laws(run(arch, **more)))
    assert [*found] == [setting]
    with pytest.raises(ValueError, match=told):
        raise ValueError(found[setting])
