"""Methods that train some parts of the source's network, against plain torch modules in eval mode."""

import pytest
import torch
from torch.nn import functional as F

from l2t_ray import registry
from l2t_ray.config import Source, Target
from l2t_ray.data.streams import stream
from l2t_ray.errors import InputError
from l2t_ray.methods.surgical import blocks
from l2t_ray.models import build
from tests.support.rival_runs import WIDTH, B, N, draw, learner, run

LABELS = torch.tensor([0, 2, 1, 1])
BLOCK = {"resnet20": "stages.1", "vgg9": "conv.3", "vit": "blocks.5", "resnet18": "layer4"}


def given(arch, image_size=32):
    """A source with running statistics that no batch has."""
    network = build(arch, 1.0 if arch in registry.ZOO else WIDTH, 5, image_size).double()
    network.redraw(stream(4, "init"))
    network.double()
    network(draw(B, 3, image_size, image_size))
    return network.requires_grad_(False).eval()


def wanted(method, arch, **options):
    width = 1.0 if arch in registry.ZOO else WIDTH
    found = run(method, arch="resnet20", precision="float64", **options)
    return found.model_copy(
        update={
            "source": Source(arch=arch, width=width),
            "target": Target(arch=arch, width=width),
            "training": found.training.model_copy(update={"weight_decay": 0.01}),
        }
    )


@pytest.mark.parametrize("arch", ["resnet20", "vgg9", "vit", "resnet18"])
@pytest.mark.usefixtures("narrow")
def test_a_linear_probe_is_logistic_regression_on_the_sources_features_in_eval_mode(arch):
    """Two steps of torch.optim.SGD on a linear layer; the features come from the source alone."""
    registry.load()
    source, images = given(arch), draw(B, 3, 32, 32, seed=5)
    found = learner(wanted("linear_probe", arch), given=source)
    before = {name: p.clone() for group in (found.theta, found.statistics) for name, p in group.items()}
    twin = torch.nn.Linear(source.fc.in_features, N).double()
    twin.load_state_dict({"weight": found.theta["fc.weight"], "bias": found.theta["fc.bias"]})
    optimizer = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    source.fc = torch.nn.Identity()
    for _ in range(2):
        found.step(images, LABELS, torch.tensor(0.1, dtype=torch.float64))
        optimizer.zero_grad()
        with torch.enable_grad():
            F.cross_entropy(twin(source(images)), LABELS).backward()
        optimizer.step()
    torch.testing.assert_close(found.theta["fc.weight"], twin.weight.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.predict(images), twin(source(images)).detach(), rtol=1e-9, atol=1e-10)
    after = {**found.theta, **found.statistics}
    assert {name for name, p in before.items() if not torch.equal(p, after[name])} == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("arch", BLOCK)
@pytest.mark.usefixtures("narrow")
def test_surgical_tuning_moves_one_block_as_autograd_says_and_leaves_all_else(arch):
    """The source in eval mode but for the block, with a gradient for the block and the classifier alone."""
    registry.load()
    source, images = given(arch), draw(B, 3, 32, 32, seed=5)
    found = learner(wanted("surgical", arch, block=BLOCK[arch]), given=source)
    before = {name: p.clone() for name, p in found.theta.items()}
    source.fc = torch.nn.Linear(source.fc.in_features, N).double()
    source.fc.load_state_dict({"weight": found.theta["fc.weight"], "bias": found.theta["fc.bias"]})
    tuned = [source.get_submodule(f"body.{BLOCK[arch]}" if arch in registry.ZOO else BLOCK[arch]), source.fc]
    for part in tuned:
        part.requires_grad_(True).train()
    with torch.enable_grad():
        F.cross_entropy(source(images), LABELS).backward()
    found.step(images, LABELS, torch.tensor(0.1, dtype=torch.float64))
    for name, p in source.named_parameters():
        moved = found.theta[name] - before[name]
        if p.grad is None:
            assert not moved.any(), name
        else:
            torch.testing.assert_close(moved, -0.1 * (p.grad + 0.01 * before[name]), rtol=1e-8, atol=1e-12, msg=name)
    torch.testing.assert_close(found.predict(images).shape, torch.Size([B, N]))
    for name, buffer in source.named_buffers():  # the block's have moved as torch moves them, the others not at all
        if "running" in name:
            ours = name.rpartition(".")[0]
            kind = "mean" if name.endswith("mean") else "var"
            torch.testing.assert_close(found.statistics[f"{kind}.{ours}"], buffer, rtol=1e-9, atol=1e-12)


def test_the_blocks_of_a_network_are_named_up_to_their_first_number():
    names = ["class_token", "conv_proj.weight", "encoder.pos_embedding", "encoder.layers.encoder_layer_3.ln_1.weight"]
    assert blocks(names) == ["conv_proj", "encoder", "encoder.layers.encoder_layer_3"]
    assert blocks(["conv1.weight", "bn1.bias", "layer1.0.conv1.weight"]) == ["conv1", "bn1", "layer1"]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: run("surgical", block=""), "options.block must be a part of resnet20, got ''; name one such as conv1"),
        (lambda: run("surgical", block="layer1"), "got 'layer1'; name one such as conv1, bn1, stages.0, stages.1"),
        (lambda: run("surgical", block="fc"), "options.block must be a part of resnet20, got 'fc'"),
        (lambda: run("linear_probe", arch="vgg9"), "target.arch must be the source's, resnet20, for linear_probe"),
        (lambda: run("linear_probe", precision="bf16"), "training.precision must be float32, tf32 or float64 for lin"),
    ],
)
def test_what_cannot_be_tuned_is_refused(make, told):
    registry.load()
    with pytest.raises(InputError) as caught:
        learner(make(), given=given("resnet20"))
    assert told in "; ".join(caught.value.problems)
