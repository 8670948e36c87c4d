"""timm's networks as sources and targets: outputs, levels and weights against timm's own code; skipped without timm."""

import hashlib
from http import HTTPStatus

import pytest
import torch
from safetensors.torch import save

from l2t_ray import registry
from l2t_ray.config import Run, Source, Target
from l2t_ray.data.fetch import fetch
from l2t_ray.errors import InputError
from l2t_ray.hubs import hub_of
from l2t_ray.models import build, build_target, load_source, zoo
from l2t_ray.published import weights_at, weights_file
from l2t_ray.registry import network_problems
from l2t_ray.training.learner import Learner
from tests.support.file_server import Handler, serving

REASON = "needs timm: pip install 'l2t-ray[timm]'"
timm = pytest.importorskip("timm", reason=REASON)
constants = pytest.importorskip("huggingface_hub.constants", reason=REASON)
registry.load()
N, SIZE = 3, 64
NETWORKS = ("test_resnet", "test_efficientnet", "test_convnext")


def in_timm(arch, theta):
    head = hub_of("timm/").known(f"timm/{arch}").head
    return {name[5:] if name.startswith("body.") else f"{head}{name[2:]}": p for name, p in theta.items()}


class Hub(Handler):
    """Answers with the headers of the Hugging Face hub."""

    def send_response(self, code, message=None):
        super().send_response(code, message)
        if code < HTTPStatus.BAD_REQUEST:
            self.send_header("ETag", f'"{self.server.etag}"')
            self.send_header("X-Repo-Commit", "0" * 40)

    def do_HEAD(self):  # noqa: N802  # the name that http.server calls
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.files[self.path])))
        self.end_headers()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Returns a function that serves the weights of timm/test_resnet.r160_in1k as the Hugging Face hub does."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with serving() as files:
        files.RequestHandlerClass = Hub
        address = f"http://127.0.0.1:{files.server_address[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

        def serve(content, etag=None):
            files.etag = etag or hashlib.sha256(content).hexdigest()
            files.put("timm/test_resnet.r160_in1k/resolve/main/model.safetensors", content)

        yield serve


@pytest.mark.parametrize("arch", NETWORKS)
def test_maps_and_logits_are_those_of_timm(arch):
    """Against timm's own `features_only`, in training and in evaluation."""
    target = build_target(Target(arch=f"timm/{arch}"), N, image_size=SIZE)
    theta = target.initial_theta(torch.Generator().manual_seed(0))
    statistics, images = target.initial_statistics(theta["fc.bias"]), torch.randn(4, 3, SIZE, SIZE)
    official = timm.create_model(arch, num_classes=N)
    official.load_state_dict(in_timm(arch, theta), strict=False)
    torch.testing.assert_close(target.predict(theta, statistics, images), official.eval()(images))
    values = target.forward(theta, images, statistics=statistics)
    torch.testing.assert_close(values.logits, official.train()(images))
    torch.testing.assert_close(target.predict(theta, statistics, images), official.eval()(images))
    assert tuple(m.shape[1] for m in values.features) == target.feature_channels
    pyramid = timm.create_model(arch, features_only=True)
    assert target.feature_channels == tuple(pyramid.feature_info.channels())
    assert target.feature_sizes == tuple(SIZE // step for step in pyramid.feature_info.reduction())


def test_a_transformer_gives_four_levels_of_patches_and_its_graph_is_cut_between_its_blocks():
    found = zoo.plan("timm/vit_tiny_patch16_224", hub_of("timm/").known("timm/vit_tiny_patch16_224").levels, SIZE)
    assert hub_of("timm/").known("timm/vit_tiny_patch16_224").levels == (
        "blocks.2",
        "blocks.5",
        "blocks.8",
        "blocks.11",
    )
    assert (found.channels, found.sizes) == ((192,) * 4, (4,) * 4)
    assert len(found.segments) > 12


def test_initial_weights_follow_the_seed():
    target = build_target(Target(arch="timm/test_resnet"), N, image_size=SIZE)
    first, again, other = (target.initial_theta(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(p, again[name]) for name, p in first.items())
    assert not torch.equal(first["body.conv1.0.weight"], other["body.conv1.0.weight"])


@pytest.mark.parametrize(
    ("arch", "told"),
    [
        ("resnet19", r"must be a network of timm .*, got 'timm/resnet19'; did you mean timm/resnet18\?"),
        ("resnetv2_50", "classifier is one linear layer, got 'timm/resnetv2_50' with head.fc; take another"),
    ],
)
def test_networks_that_do_not_suit_are_refused(arch, told):
    [(setting, problem)] = network_problems("source", f"timm/{arch}", 1.0, None)
    assert setting == "source.arch"
    with pytest.raises(InputError, match=told):
        raise InputError(problem)


@pytest.mark.parametrize(
    ("arch", "levels", "told"),
    [
        ("test_resnet", ("layr2",), "levels must name places of timm/test_resnet, got 'layr2'; did you mean layer2?"),
        ("test_vit", None, "arch must be a network whose graph does not depend on its values, got timm/test_vit"),
        ("swin_tiny_patch4_window7_224", ("layers.0",), r"got 'layers.0' of \[B, 16, 16, 96\]; name another place"),
    ],
)
def test_levels_that_cannot_be_taken_are_refused(arch, levels, told):
    with pytest.raises(InputError, match=told):
        build(f"timm/{arch}", 1.0, N, SIZE, levels)


def test_the_key_holds_the_resolved_name_of_the_weights(tmp_path, monkeypatch):
    """`pretrained` is timm's choice at a time, so the key has its tag."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def run(**more):
        data = {"name": "digits", "samples_per_class": 2}
        return Run(data=data, method="scratch", seed=0, target={"arch": "timm/test_resnet", **more})

    chosen, named = run(weights="pretrained"), run(weights="r160_in1k")
    assert chosen.resolved()["target"]["sha256"] == "test_resnet.r160_in1k"
    assert chosen.key == named.key
    assert chosen.key != run().key


def test_weights_come_from_the_hub_in_timms_form(tmp_path, monkeypatch, hub):
    """Served from loopback: `model.safetensors` of timm/test_resnet.r160_in1k, with the hub's headers."""
    official = timm.create_model("test_resnet")
    hub(save(official.state_dict()))
    source = Source(arch="timm/test_resnet", weights="pretrained")
    path = tmp_path / "hub" / "checkpoints" / "timm--test_resnet.r160_in1k.safetensors"
    assert weights_file(source.arch, source.weights) == str(path)
    item = weights_at(str(path))
    with pytest.raises(InputError, match="must hold timm's test_resnet r160_in1k, got no file"):
        fetch(item, path, download=False)
    fetch(item, path, say=lambda line: None)
    network = load_source(source, SIZE)
    images = torch.randn(2, 3, SIZE, SIZE)
    torch.testing.assert_close(network(images), official.eval()(images))
    assert network.n_classes == official.num_classes
    elsewhere = path.rename(tmp_path / path.name)  # as on a worker that has had it from the driver
    same = load_source(source.model_copy(update={"weights": str(elsewhere)}), SIZE)
    assert torch.equal(same(images), network(images))
    assert network.normalization[0] == official.pretrained_cfg["mean"]


def test_other_content_than_the_hub_says_is_refused(tmp_path, hub):
    hub(b"short", hashlib.sha256(b"other").hexdigest())
    item = weights_at(str(weights_file("timm/test_resnet", "pretrained")))
    with pytest.raises(InputError, match=r"must have the hub's sha256 .*; launch again"):
        fetch(item, tmp_path / "hub" / "checkpoints" / "file", say=lambda line: None)


def test_weights_of_another_network_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "timm--test_resnet.r160_in1k.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(save(timm.create_model("test_convnext").state_dict()))
    with pytest.raises(InputError, match=r"must be timm's test_resnet\.r160_in1k, got another network"):
        load_source(Source(arch="timm/test_resnet", weights="pretrained"), SIZE)
    torch.save(timm.create_model("test_convnext").state_dict(), tmp_path / "own.pt")
    with pytest.raises(InputError, match="must match the weights, which are of another network, without"):
        load_source(Source(arch="timm/test_resnet", weights=str(tmp_path / "own.pt")), SIZE)


@pytest.mark.parametrize("method", ["l2t_www", "finetune"])
def test_methods_train_them_and_recompute_changes_nothing(method, tmp_path):
    torch.save(timm.create_model("test_efficientnet", num_classes=N).state_dict(), tmp_path / "own.pt")
    network = {"arch": "timm/test_efficientnet"}
    found = []
    for recompute in (False, True):
        settings = {
            "data": {"name": "digits", "samples_per_class": 2, "image_size": SIZE},
            "source": {**network, "weights": str(tmp_path / "own.pt"), "levels": ("blocks.2", "blocks.4")},
            "target": {**network, "levels": ("blocks.2", "blocks.4")},
            "training": {"recompute": recompute},
        }
        run = Run(method=method, seed=0, **settings)
        learner = Learner(run, N, load_source(run.source, SIZE), torch.device("cpu"))
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(4, 3, SIZE, SIZE, generator=generator)
        for _ in range(2):
            learner.step(images, torch.tensor([0, 1, 2, 0]), torch.tensor(0.01))
        found.append(learner.state())
    kept, again = found
    for group in ("theta", "statistics", "phi"):
        assert all(torch.equal(p, again[group][name]) for name, p in kept[group].items())
    assert all(p.isfinite().all() for p in kept["theta"].values())


def test_a_file_of_ones_own_is_read_in_timms_names(tmp_path):
    official = timm.create_model("test_convnext", num_classes=N)
    torch.save(official.state_dict(), tmp_path / "own.pt")
    network = load_source(Source(arch="timm/test_convnext", weights=str(tmp_path / "own.pt")), SIZE)
    images = torch.randn(2, 3, SIZE, SIZE)
    torch.testing.assert_close(network(images), official.eval()(images))
