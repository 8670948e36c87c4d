"""Image classifiers of the Hugging Face hub, served from loopback: outputs, levels, weights and hypergradients.

Skipped without transformers. The repositories are made here, small, in the form that transformers writes.
"""

import hashlib
import json
from functools import partial
from http import HTTPStatus
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.func import functional_call

from l2t_ray import registry
from l2t_ray.config import Run, Source, Target
from l2t_ray.data.fetch import fetch
from l2t_ray.errors import InputError
from l2t_ray.hubs import of_transformers
from l2t_ray.models import build, build_target, load_source
from l2t_ray.published import weights_at, weights_file
from l2t_ray.registry import network_problems, recompute_problem
from l2t_ray.training.learner import Learner
from tests.support.file_server import Handler, serving
from tests.support.zoo import Case, N, Problem

REASON = "needs transformers: pip install 'l2t-ray[transformers]'"
transformers = pytest.importorskip("transformers", reason=REASON)
AutoModelForImageClassification = transformers.AutoModelForImageClassification
constants = pytest.importorskip("huggingface_hub.constants", reason=REASON)
registry.load()
SIZE, COMMIT = 64, "0123456789" * 4
SMALL = {"num_labels": 5, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
CONFIGS = {
    "resnet": lambda: transformers.ResNetConfig(
        num_labels=5, embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic"
    ),
    "convnext": lambda: transformers.ConvNextConfig(num_labels=5, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1]),
    "vit": lambda: transformers.ViTConfig(**SMALL, intermediate_size=64, image_size=96, hidden_dropout_prob=0.3),
    "dinov2": lambda: transformers.Dinov2Config(**SMALL, image_size=SIZE, patch_size=16),
}
LEVELS = {
    "resnet": ((8, 8, 16, 16), (16, 8, 4, 2)),
    "convnext": ((8, 8, 16, 16), (16, 8, 4, 2)),
    "vit": ((32,) * 4, (4,) * 4),
    "dinov2": ((32,) * 4, (4,) * 4),
}


def about_repository(name):
    return json.dumps({"id": f"someone/{name}", "sha": COMMIT}).encode()


def arch_of(name):
    return f"hf/someone/{name}@{COMMIT}"


class Repository(Handler):
    """Answers with the headers of the Hugging Face hub."""

    def send_response(self, code, message=None):
        super().send_response(code, message)
        content = self.server.files.get(self.path)
        if code < HTTPStatus.BAD_REQUEST and content is not None:
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        elif code == HTTPStatus.NOT_FOUND:
            known = any(path.startswith(self.path.partition("/resolve/")[0]) for path in self.server.files)
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")

    def do_HEAD(self):  # noqa: N802  # the name that http.server calls
        content = self.server.files.get(self.path)
        self.send_response(HTTPStatus.NOT_FOUND if content is None else HTTPStatus.OK)
        if content is not None:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Returns a function that puts a small classifier on a hub of our own, and returns transformers' own network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    of_transformers._known.cache_clear()
    of_transformers._ask.cache_clear()
    with serving() as files:
        files.RequestHandlerClass = Repository
        address = f"http://127.0.0.1:{files.server_address[1]}"
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

        def put(name, config=None, **about):
            torch.manual_seed(0)
            config = config or CONFIGS[name]()
            config.architectures = [f"{type(config).__name__.removesuffix('Config')}ForImageClassification"]
            network = AutoModelForImageClassification.from_config(config, attn_implementation="eager")
            network.save_pretrained(tmp_path / name)
            about = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7], **about}
            (tmp_path / name / "preprocessor_config.json").write_text(json.dumps(about))
            files.put(f"api/models/someone/{name}/revision/{COMMIT}", about_repository(name))
            for file in (tmp_path / name).iterdir():
                files.put(f"someone/{name}/resolve/{COMMIT}/{file.name}", file.read_bytes())
            return network.eval()

        put.files = files
        yield put


@pytest.mark.parametrize("name", CONFIGS)
def test_maps_and_logits_are_those_of_transformers(name, hub):
    official = hub(name)
    config = type(official.config).from_dict({**official.config.to_dict(), "num_labels": N})
    official = type(official)(config)
    target = build_target(Target(arch=arch_of(name)), N, image_size=SIZE)
    theta = target.initial_theta(torch.Generator().manual_seed(0))
    again = target.initial_theta(torch.Generator().manual_seed(0))
    assert all(torch.equal(p, again[name]) for name, p in theta.items())
    assert (target.feature_channels, target.feature_sizes) == LEVELS[name]
    head = of_transformers._known(arch_of(name)).head
    named = {n[5:] if n.startswith("body.") else f"{head}{n[2:]}": p for n, p in theta.items()}
    statistics, images = target.initial_statistics(theta["fc.bias"]), torch.randn(4, 3, SIZE, SIZE)
    more = {"interpolate_pos_encoding": True} if name == "vit" else {}

    def logits(network):
        return functional_call(network, named, (images,), more, strict=False).logits

    torch.testing.assert_close(target.predict(theta, statistics, images), logits(official.eval()))
    off = official.train() if name == "resnet" else official.eval()  # dropout would draw
    torch.testing.assert_close(target.forward(theta, images, statistics=statistics).logits, logits(off))


class HubCase(Case):
    """One of the hub's networks; transformers' own is that of the weights, with another number of classes."""

    def official_problem(self, arch, size):
        known = of_transformers._known(arch)
        network = AutoModelForImageClassification.from_config(
            of_transformers._config(arch), attn_implementation="eager"
        )
        head, last = network.get_submodule(known.head), torch.nn.Linear(self.theta["fc.weight"].shape[1], N)
        assert head.weight.shape[1] == last.weight.shape[1]
        network.set_submodule(known.head, last)
        return partial(Problem, partial(under_official_names, arch), known.levels, network)


def under_official_names(arch, theta):
    head = of_transformers._known(arch).head
    own = {name: p for name, p in theta.items() if not name.startswith("project.")}
    return {n[5:] if n.startswith("body.") else f"{head}{n[2:]}": p for n, p in own.items()}


def put_weights(network, arch):
    path = Path(weights_file(arch, "pretrained"))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)


@pytest.mark.parametrize("inner", ["sgd", "published"])
@pytest.mark.parametrize("name", CONFIGS)
def test_hypergradients_equal_double_backprop(name, inner, hub):
    """T = 2: `torch.func` through the network as it is, against autograd through transformers' own."""
    config = CONFIGS[name]()
    config.image_size = SIZE
    hub(name, config)
    assert HubCase(arch_of(name)).error(inner) < 1e-8


def test_weights_come_from_the_hub(hub):
    """Served from loopback, with the hub's headers; logits, and levels against transformers' own hidden states."""
    official = hub("resnet")
    source = Source(arch=arch_of("resnet"), weights="pretrained")
    path = Path(weights_file(source.arch, source.weights))
    item = weights_at(str(path))
    with pytest.raises(InputError, match=r"must hold the Hugging Face hub's someone/resnet@.* pretrained, got no file"):
        fetch(item, path, download=False)
    fetch(item, path, say=lambda line: None)
    network, images = load_source(source, SIZE), torch.randn(2, 3, SIZE, SIZE)
    found = official(images, output_hidden_states=True)
    torch.testing.assert_close(network(images), found.logits)
    for ours, theirs in zip(network.features(images), found.hidden_states[1:], strict=True):
        torch.testing.assert_close(ours, theirs)
    assert network.n_classes == 5
    assert network.normalization == ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))


def test_the_key_holds_repository_and_commit(hub):
    hub("resnet")

    def run(**more):
        data = {"name": "digits", "samples_per_class": 2}
        return Run(data=data, method="scratch", seed=0, target={"arch": arch_of("resnet"), **more})

    assert run(weights="pretrained").resolved()["target"]["sha256"] == f"someone/resnet@{COMMIT}.pretrained"
    assert run(weights="pretrained").key != run().key


def test_weights_that_are_not_all_there_are_refused(hub):
    official = hub("resnet")
    path = Path(weights_file(arch_of("resnet"), "pretrained"))
    put_weights(official, arch_of("resnet"))
    state = {name: tensor for name, tensor in load_file(path).items() if not name.startswith("classifier.")}
    save_file(state, path)
    with pytest.raises(InputError, match=r"must be all weights of .*, got none for classifier\.1\.bias"):
        load_source(Source(arch=arch_of("resnet"), weights="pretrained"), SIZE)
    path.write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"must be all weights of .*, got another network, or no file"):
        load_source(Source(arch=arch_of("resnet"), weights="pretrained"), SIZE)


def told(arch):
    [(setting, problem)] = network_problems("source", arch, 1.0, None)
    assert setting == "source.arch"
    return problem


def test_names_that_do_not_suit_are_refused(hub):
    hub.files.put("api/models/someone/resnet", about_repository("resnet"))
    assert told("hf/someone/resnet").endswith(f"got 'hf/someone/resnet'; its newest is {arch_of('resnet')}")
    assert told("hf/someone/other").endswith("got 'hf/someone/other'; its page lists them")
    assert told(arch_of("absent")).startswith("must be a public repository of the Hugging Face hub, got")
    hub("resnet")
    config = json.dumps({"architectures": ["BertForMaskedLM"]}).encode()
    hub.files.put(f"someone/words/resolve/{COMMIT}/config.json", config)
    hub.files.put(f"api/models/someone/words/revision/{COMMIT}", about_repository("words"))
    assert "must be an image classifier of transformers" in told(arch_of("words"))


def test_an_unreachable_hub_is_told(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "must be a network whose config.json can be fetched, got no answer" in told(arch_of("resnet"))


@pytest.mark.parametrize(
    ("levels", "size", "told"),
    [
        (("resnet.encoder.stages.9",), SIZE, r"got 'resnet.encoder.stages.9'; did you mean resnet.encoder.stages.\d"),
        (
            ("classifier.0",),
            SIZE,
            r"must be places of .* with square maps .*, got 'classifier.0' of \[B, 16\]",
        ),
        (("resnet.encoder.stages.1", "resnet.encoder.stages.0"), SIZE, "must be different places of .* in order"),
    ],
)
def test_levels_that_cannot_be_taken_are_refused(levels, size, told, hub):
    hub("resnet")
    with pytest.raises(InputError, match=told):
        build(arch_of("resnet"), 1.0, N, size, levels)


def test_an_image_size_that_does_not_suit_is_refused(hub):
    hub("convnext")
    with pytest.raises(InputError, match=r"data.image_size must suit .*, got 8"):
        build(arch_of("convnext"), 1.0, N, 8)


def test_recompute_is_refused(hub):
    assert recompute_problem(arch_of("resnet"), recompute=True).startswith("must be false for hf/someone/resnet")
    assert recompute_problem(arch_of("resnet"), recompute=False) is None


@pytest.mark.parametrize("method", ["l2t_www", "finetune"])
def test_methods_train_them(method, hub):
    put_weights(hub("vit"), arch_of("vit"))
    network = {"arch": arch_of("vit"), "weights": "pretrained"}
    data = {"name": "digits", "samples_per_class": 2, "image_size": SIZE}
    run = Run(method=method, seed=0, data=data, source=network, target={"arch": arch_of("vit")})
    learner = Learner(run, N, load_source(run.source, SIZE), torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in learner.state()["theta"].items()}
    for _ in range(2):
        learner.step(torch.randn(4, 3, SIZE, SIZE), torch.tensor([0, 1, 2, 0]), torch.tensor(0.01))
    after = learner.state()["theta"]
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert not torch.equal(after["fc.weight"], before["fc.weight"])
