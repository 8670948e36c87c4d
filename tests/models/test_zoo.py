"""torchvision's networks as sources and targets: the passes against double back-propagation, levels, weights' names."""

import pytest
import torch
import torchvision
from torch import nn

from l2t_ray.config import Source, Target
from l2t_ray.errors import InputError
from l2t_ray.models import build, build_target, load_source, source_state, zoo
from l2t_ray.registry import SIZES, ZOO
from tests.support.zoo import Case, N, official_names


@pytest.mark.parametrize("arch", ZOO)
@pytest.mark.usefixtures("narrow")
def test_maps_and_logits_are_those_of_torchvision(arch):
    case = Case(arch)
    values = case.network.forward(case.theta, case.images)
    maps, logits = case.problem.outputs(case.theta)
    torch.testing.assert_close(values.logits, logits, rtol=1e-9, atol=1e-10)
    assert len(maps) == len(ZOO[arch])
    for ours, theirs in zip(values.features, maps, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("inner", ["sgd", "published"])
@pytest.mark.parametrize("arch", ZOO)
@pytest.mark.usefixtures("narrow")
def test_hypergradients_equal_double_backprop(arch, inner, recompute):
    """T = 2: `torch.func` through our segments, against autograd through torchvision's own network."""
    assert Case(arch, recompute=recompute).error(inner) < 1e-8


@pytest.mark.parametrize("arch", ZOO)
@pytest.mark.usefixtures("narrow")
def test_running_statistics_and_predictions_are_torchvisions(arch):
    """Two batches through torchvision's own batch norm in training, then its evaluation."""
    case = Case(arch)
    official = case.problem.official
    official.load_state_dict(official_names(arch, case.theta), strict=False)
    statistics = case.network.initial_statistics(case.theta["fc.bias"])
    for _ in range(2):
        images = torch.randn_like(case.images)
        case.network.forward(case.theta, images, statistics=statistics)
        official(images)
    logits = case.network.predict(case.theta, statistics, images)
    torch.testing.assert_close(logits, official.eval()(images), rtol=1e-9, atol=1e-10)


@pytest.mark.usefixtures("narrow")
def test_a_frozen_source_keeps_its_running_statistics():
    source = build("resnet18", 1.0, N, 64).requires_grad_(False).eval()
    before = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    maps, logits = source.outputs(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, N)
    assert [m.shape[-1] for m in maps] == [16, 8, 4, 2]
    assert all(torch.equal(tensor, before[name]) for name, tensor in source.state_dict().items())


@pytest.mark.parametrize("size", [32, 48, 64, 224])
@pytest.mark.parametrize("arch", ZOO)
def test_levels_have_the_sizes_of_the_images(arch, size):
    """Strides of 4 to 32; a VGG's levels lie before its pools; patches of 16 pixels."""
    sides = {"vgg16_bn": [size // 2**n for n in range(5)], "vit_b_16": [size // 16] * 4}
    expected = sides.get(arch, [-(-size // 4), -(-size // 8), -(-size // 16), -(-size // 32)])
    if arch == "convnext_tiny":
        expected = [size // 4, size // 8, size // 16, size // 32]
    assert list(zoo.plan(arch, ZOO[arch], size).sizes) == expected


@pytest.mark.parametrize("arch", SIZES)
def test_the_own_networks_take_images_of_other_sizes(arch):
    network = build(arch, 0.1, N, 48).eval()
    maps, logits = network.outputs(torch.randn(2, 3, 48, 48))
    assert tuple(m.shape[-1] for m in maps) == network.sizes
    assert logits.shape == (2, N)
    target = build_target(Target(arch=arch, width=0.1), N, image_size=48)
    theta = target.initial_theta(torch.Generator().manual_seed(0))
    assert tuple(m.shape[-1] for m in target.forward(theta, torch.randn(2, 3, 48, 48)).features) == target.feature_sizes


@pytest.mark.usefixtures("narrow")
def test_chosen_levels_are_taken_in_the_middle_of_a_block_too():
    """A residual's first batch norm, which torchvision overwrites with its ReLU in place."""
    levels = ("layer1.0.bn1", "layer3")
    case = Case("resnet18", levels=levels)
    values = case.network.forward(case.theta, case.images)
    official, seen = case.problem.official, []
    official.layer1[0].bn1.register_forward_hook(lambda _m, _i, out: seen.append(out.clone()))
    torch.func.functional_call(official, official_names("resnet18", case.theta), (case.images,))
    torch.testing.assert_close(values.features[0], seen[0], rtol=1e-9, atol=1e-10)
    assert len(case.network.forward(case.theta, case.images, n_levels=1).features) == 1


@pytest.mark.parametrize(
    ("arch", "levels", "size", "told"),
    [
        ("resnet18", ("layr2",), 32, "levels must name places of resnet18, got 'layr2'; did you mean layer2?"),
        ("resnet18", ("layer2", "layer1"), 32, "must be different places of resnet18 in order"),
        ("resnet18", ("fc",), 32, r"got 'fc' of \[B, 512\]; name another place"),
        ("resnet18", ("flatten",), 32, "got 'flatten' of"),
        ("vit_b_16", ZOO["vit_b_16"], 40, "data.image_size must be a multiple of 16, .*got 40; correct it"),
        ("vgg16_bn", ZOO["vgg16_bn"], 8, "data.image_size must be large enough for vgg16_bn, got 8; take larger"),
    ],
)
def test_levels_and_sizes_that_do_not_exist_are_refused(arch, levels, size, told):
    with pytest.raises(InputError, match=told):
        build(arch, 1.0, N, size, levels)


def test_initial_weights_are_torchvisions_and_follow_the_seed():
    network = build_target(Target(arch="mobilenet_v3_small"), N)
    first, again, other = (network.initial_theta(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(p, again[name]) for name, p in first.items())
    kernel = first["body.features.12.0.weight"]  # 96 to 576 channels
    assert not torch.equal(kernel, other["body.features.12.0.weight"])
    assert float(kernel.std()) == pytest.approx((2 / 576) ** 0.5, rel=0.02)  # He, fan-out: torchvision's own


def test_dropout_and_stochastic_depth_are_off():
    parts = [*build("convnext_tiny", 1.0, N).modules(), *zoo._make("vgg16_bn", N, 32, "meta").modules()]
    drawing = [part for part in parts if isinstance(part, nn.Dropout | torchvision.ops.StochasticDepth)]
    assert drawing
    assert all(part.p == 0 for part in drawing)


def test_positions_are_torchvisions_interpolation():
    official = torchvision.models.VisionTransformer(64, 16, 1, 1, 8, 8)
    state = official.state_dict()
    found = zoo.under_own_names("vit_b_16", 32, state)
    assert found["body.encoder.pos_embedding"].shape == (1, 1 + 2 * 2, 8)
    torch.testing.assert_close(found["body.encoder.pos_embedding"][:, 0], state["encoder.pos_embedding"][:, 0])
    assert torch.equal(found["fc.bias"], state["heads.head.bias"])
    assert torch.equal(
        zoo.under_own_names("vit_b_16", 64, state)["body.encoder.pos_embedding"], state["encoder.pos_embedding"]
    )


def test_weights_of_another_architecture_are_refused_in_one_line(tmp_path):
    for arch in ("resnet18", "mobilenet_v3_small"):
        torch.save(torchvision.models.get_model(arch).state_dict(), tmp_path / f"{arch}.pth")
    torch.save(source_state(build("resnet20", 0.25, 7)), tmp_path / "own.pt")

    def told(arch, file):
        with pytest.raises(InputError) as caught:
            load_source(Source(arch=arch, weights=str(tmp_path / file)))
        return caught.value.problems

    rule = "source must match the weights, which are"
    assert told("resnet34", "resnet18.pth") == (f"{tmp_path}/resnet18.pth: {rule} resnet18; got resnet34",)
    assert told("resnet18", "mobilenet_v3_small.pth")[0].endswith("which are mobilenet_v3_small; got resnet18")
    assert told("resnet18", "own.pt")[0].endswith("which are resnet20, width 0.25; got resnet18")
    assert told("resnet20", "resnet18.pth")[0].endswith("which are resnet18; got resnet20, width 1.0")


def test_own_files_of_weights_are_read_again_with_other_levels(tmp_path):
    network = build("mobilenet_v3_small", 1.0, N, 64)
    network.classes = ("a", "b", "c")
    torch.save(source_state(network), tmp_path / "own.pt")
    again = load_source(Source(arch="mobilenet_v3_small", weights=str(tmp_path / "own.pt"), levels=("features.3",)), 64)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(again(images), network.eval()(images))
        assert [m.shape[1:] for m in again.features(images)] == [(24, 8, 8)]
    assert again.classes == ("a", "b", "c")


@pytest.mark.usefixtures("narrow")
def test_a_loss_beside_a_network_of_torchvision_is_left_out_and_names_are_told_as_in_the_file(tmp_path):
    """As Lightning writes them; of our own networks' files it was left out already."""
    official = torchvision.models.get_model("resnet18", num_classes=N).state_dict()
    state = {f"model.{name}": tensor for name, tensor in official.items()}
    file = tmp_path / "net.pt"
    torch.save({"state_dict": state | {"criterion.weight": torch.ones(N)}}, file)
    loaded = load_source(Source(arch="resnet18", weights=str(file)))
    assert torch.equal(loaded.fc.weight, official["fc.weight"])
    torch.save(state | {"model.more.weight": torch.ones(N), "model.layer1.more": torch.ones(N)}, file)
    with pytest.raises(InputError, match=r"of another network, with layer1.more; got resnet18"):
        load_source(Source(arch="resnet18", weights=str(file)))
