"""Every rival trained, killed and resumed, packed, refused; the chain of a source's trainings; the sweep files."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from l2t_ray import models, registry
from l2t_ray.config import Data, Run, Source
from l2t_ray.data.load import load_data
from l2t_ray.errors import InputError
from l2t_ray.pretrain import main as pretrain
from l2t_ray.sweepfile.read import read_sweep
from l2t_ray.sweepfile.source_file import read_pretraining
from l2t_ray.training.pack import train
from tests.support.places import ROOT
from tests.support.rival_runs import CLASSES, CPU, HISTORY, RIVALS, WIDTH, B, learner, run, source

SWEEPS = ROOT / "sweeps"
FREEZES = ("factor_transfer", "co_tuning", "delta")  # tensors before the first epoch


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    registry.load()
    data = load_data(Data(name="digits", classes=CLASSES, samples_per_class=3), tmp_path_factory.mktemp("data"))
    return replace(data, test_images=data.test_images[::9], test_labels=data.test_labels[::9])  # some thirty


# every rival


@pytest.mark.parametrize("name", RIVALS)
def test_a_resumed_rival_equals_an_undisturbed_one_bitwise(name, digits, tmp_path):
    class KillError(Exception):
        pass

    def kill(epoch, snapshot):
        torch.save(snapshot(), tmp_path / "state.pt")
        raise KillError

    wanted = [run(name, seed=s) for s in (0, 1)]
    undisturbed, final = [], []
    undisturbed = train(wanted, digits, source(), device=CPU, on_epoch=lambda _, snapshot: final.append(snapshot()))
    with pytest.raises(KillError):
        train(wanted, digits, source(), device=CPU, on_epoch=kill)
    states, resumed_final = torch.load(tmp_path / "state.pt", weights_only=True), []
    resumed = train(
        wanted,
        digits,
        source(),
        device=CPU,
        states=states,
        on_epoch=lambda _, snapshot: resumed_final.append(snapshot()),
    )
    assert [o.status for o in undisturbed] == ["finished"] * 2
    assert [o.metrics for o in resumed] == [o.metrics for o in undisturbed]
    for one, other in zip(final[-1], resumed_final[-1], strict=True):
        for group in ("theta", "buffers", "statistics", "frozen"):
            assert one[group].keys() == other[group].keys()
            assert all(torch.equal(one[group][n], other[group][n]) for n in one[group]), group
    assert bool(final[-1][0]["frozen"]) == (name in FREEZES)


def test_a_paraphraser_that_explodes_is_its_own_runs_divergence(digits):
    """At this rate some seeds explode and others do not."""
    options = {"paraphraser_steps": 60, "paraphraser_lr": 0.3}
    wanted = [run("factor_transfer", seed=seed, **options) for seed in range(4)]
    pack = train(wanted, digits, source(), device=CPU)
    alone = [train([one], digits, source(), device=CPU)[0] for one in wanted]
    assert {outcome.status for outcome in pack} == {"finished", "diverged"}
    assert [outcome.status for outcome in pack] == [outcome.status for outcome in alone]


@pytest.mark.parametrize(("name", "n_passes"), [("finetune", 0), ("spottune", 0), ("bss", 0), ("distillation", 2)])
def test_the_source_runs_only_where_its_features_are_read(name, n_passes):
    given, images = source(torch.float64), torch.randn(B, 3, 32, 32, dtype=torch.float64)
    found, seen = learner(run(name, precision="float64"), given=given), []
    given.features = lambda *arguments: seen.append(arguments) or type(given).features(given, *arguments)
    for _ in range(2):
        found.step(images, torch.zeros(B, dtype=torch.long), torch.tensor(0.01, dtype=torch.float64))
    assert len(seen) == n_passes


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_is_the_same_bitwise_alone_and_in_a_pack(name, digits):
    wanted = [run(name, seed=s) for s in (0, 1)]
    found = []
    train(wanted, digits, source(), device=CPU, on_epoch=lambda _, snapshot: found.append(snapshot()))
    for k, single in enumerate(wanted):
        alone = []
        train([single], digits, source(), device=CPU, on_epoch=lambda _, snapshot, a=alone: a.append(snapshot()))
        for parameter, value in alone[-1][0]["theta"].items():
            assert torch.equal(found[-1][k]["theta"][parameter], value), parameter


@pytest.mark.parametrize("arch", ["vgg11", "resnet20", "vit"])
@pytest.mark.parametrize(
    "name", ["ufm", "l2t_www", *(pytest.param(name, marks=pytest.mark.slow) for name in ("scratch", "l2t_ww"))]
)
def test_the_thesis_methods_train_every_target(name, arch, digits):
    wanted = run(name, arch=arch)
    once = wanted.training.model_copy(update={"epochs": 2, "batch_size": 16})  # a step each
    (outcome,) = train([wanted.model_copy(update={"training": once})], digits, source(), device=CPU)
    assert outcome.status == "finished"
    assert outcome.metrics["train_loss"][-1][1] < 2 * math.log(3)


OWN = '''
"""Everything that the rivals needed: a random network of its own, a start, frozen tensors, stages, refusals."""
from dataclasses import dataclass

import torch
from torch import nn

from l2t_ray.methods import Method, Stage
from l2t_ray.models import Backbone, BatchNorm, Traced
from l2t_ray.registry import register


class Noisy(Backbone):
    n_draws = 2

    def __init__(self, n_classes):
        super().__init__("vit", 1.0, n_classes, [4])
        self.conv, self.bn, self.fc = nn.Conv2d(3, 4, 4, 4), BatchNorm(4), nn.Linear(4, n_classes)

    @property
    def sizes(self):
        return (8,)

    def features(self, x, n_levels=None, draws=None):
        x = self.bn(self.conv(x))
        return [x if draws is None else x * draws.mean(1)[:, None, None, None]]

    def classify(self, last):
        return self.fc(last.mean((2, 3)))


@dataclass(frozen=True)
class Everything(Method):
    def laws(self, run):
        if run.options["strength"] < 0:
            yield "options.strength", f"must be >= 0, got {run.options['strength']}; correct it"

    def target(self, run, n_classes, source):
        return Traced(Noisy(n_classes))

    def start(self, run, network, source):
        return {"fc.bias": torch.arange(3.0)}, {"mean.bn": torch.full((4,), 0.5)}

    def prepare(self, run, shapes, images, features, generator):
        return {"mean": features(images)[-1].mean((0, 2, 3)), "noise": torch.randn(2, generator=generator)}

    def stage(self, progress, options):
        return Stage(rates={"conv.": 0.0}) if progress < 0.5 else Stage(rates={"fc.": 0.0})

    def loss(self, extra, batch, options):
        return options["strength"] * (batch.target[0].mean() - batch.frozen["mean"].mean()).square()


register(Everything("everything", uses=frozenset({"source"}), options={"strength": 1.0}))
'''


def test_a_file_of_ones_own_can_do_what_the_rivals_do(digits, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    registry.load([tmp_path / "own.py"])
    states = []
    wanted = [run("everything", seed=s, arch="vgg9") for s in (0, 1)]
    outcomes = train(wanted, digits, source(), device=CPU, on_epoch=lambda _, snapshot: states.append(snapshot()))
    assert [o.status for o in outcomes] == ["finished"] * 2
    first, last = (state[0] for state in states)
    assert torch.equal(first["theta"]["fc.weight"], last["theta"]["fc.weight"])  # the second stage left it
    assert not torch.equal(first["theta"]["conv.weight"], last["theta"]["conv.weight"])
    assert (first["theta"]["fc.bias"] - torch.arange(3.0)).abs().max() < 0.1
    assert last["frozen"]["mean"].shape == (8,)
    assert not torch.equal(states[0][0]["frozen"]["noise"], states[0][1]["frozen"]["noise"])
    with pytest.raises(InputError, match=r"options\.strength must be >= 0, got -1"):
        learner(run("everything", arch="vgg9", strength=-1.0))


# gate

TWICE = [{"data": name, "classes": ["a", "b"], "sha256": "ab"} for name in ("one", "other")]  # the same images


def test_two_folders_of_one_name_are_two_data_sets():
    parts = [{"data": "birds", "classes": ["a", "b"], "sha256": sha256} for sha256 in ("ab", "cd")]
    learner(run("intermediate_finetune", precision="float64"), given=source(torch.float64, history=parts))


@pytest.mark.parametrize(
    ("wanted", "given", "told"),
    [
        (lambda: run("finetune", arch="vgg9"), {}, "arch must be the source's, resnet20, for finetune, got vgg9"),
        (lambda: run("spottune", arch="vit"), {}, "target.arch must be a ResNet of three stages, for spottune"),
        (lambda: run("spottune", arch="resnet32"), {}, "target.arch must be the source's, resnet20, for spottune"),
        (lambda: run("distillation"), {"classes": ("7", "8")}, "got a source without 0, 1, 2; train a source on"),
        (lambda: run("hint", distil=True), {"classes": ("7", "8")}, "for hint with options.distil, got"),
        (lambda: run("intermediate_finetune"), {"history": HISTORY[:1]}, "two data sets in turn for "),
        (lambda: run("intermediate_finetune"), {"history": HISTORY[:1] * 2}, "got cifar10 then cifar10; train it"),
        (lambda: run("intermediate_finetune"), {"history": ()}, "got a file of weights that names none"),
        (lambda: run("hint", source_level=3), {}, "options.source_level must be a level of resnet20, 0 to 2, or -1"),
        (lambda: run("hint", target_level=3), {}, "options.target_level must be a level of at least the hint's"),
        (lambda: run("factor_transfer", p=3), {}, "options.p must be 1 (L1) or 2 (L2), got 3"),
        (lambda: run("factor_transfer", paraphraser_steps=0), {}, "options.paraphraser_steps must be > 0, got 0"),
        (lambda: run("intermediate_finetune"), {"history": TWICE}, "got one then other; train it"),
        (lambda: run("hint", hint_share=1.0), {}, "options.hint_share must be >= 0 and <= 0.5, got 1.0"),
        (lambda: run("hint", epochs=1), {}, "options.hint_share must be >= 0 and <= 0, got 0.5"),
        (lambda: run("hint", temperature=0.0), {}, "options.temperature must be > 0, got 0.0"),
        (lambda: run("distillation", temperature=-4.0), {}, "options.temperature must be > 0, got -4.0"),
        (lambda: run("distillation", alpha=3.0), {}, "options.alpha must be >= 0 and <= 1, got 3.0"),
        (lambda: run("finetune", rate=-1.0), {}, "options.rate must be >= 0, got -1.0"),
        (lambda: run("attention_transfer", beta=-1.0), {}, "options.beta must be >= 0, got -1.0"),
        (lambda: run("attention_transfer", power=0.0), {}, "options.power must be > 0, got 0.0"),
        (lambda: run("spottune", policy_rate=-1.0), {}, "options.policy_rate must be >= 0, got -1.0"),
    ],
)  # fmt: skip
def test_what_a_rival_cannot_do_is_refused(wanted, given, told):
    registry.load()
    with pytest.raises(InputError) as caught:
        learner(wanted(), given=source(**given))
    assert told in "; ".join(caught.value.problems)


def test_a_source_without_classes_cannot_be_distilled():
    registry.load()
    given = source()
    given.classes = None
    with pytest.raises(InputError, match="must name its classes for distillation"):
        learner(run("distillation"), given=given)


def test_a_class_that_two_of_the_sources_outputs_are_called_cannot_be_distilled():
    """ImageNet has two cranes; the first one's logit would have been taken for either."""
    registry.load()
    given = source()
    given.classes = ("0", "1", "2", "1", "7")
    with pytest.raises(InputError, match=r"must have one output for each .*, got several called 1; give each another"):
        learner(run("distillation"), given=given)


def test_what_settings_forbid_is_told_at_its_line_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.pt").write_bytes(b"weights")
    Path("sweep.yaml").write_text(
        "sweep: s\n"
        "run: {source: {weights: net.pt, arch: resnet32}, data: {name: digits, samples_per_class: 1}, seed: 0}\n"
        "grid:\n"
        "  - method: [spottune, finetune]\n"
        "    target:\n"
        "      arch: vgg9\n"
        "  - method: finetune\n"
    )
    with pytest.raises(InputError) as caught:
        read_sweep(Path("sweep.yaml"))
    assert [line.partition(", ")[0] for line in caught.value.problems] == [
        "sweep.yaml:6: target.arch must be a ResNet of three stages",
        "sweep.yaml:6: target.arch must be the source's",
        "sweep.yaml:7: target.arch must be the source's",  # the default, vgg9
    ]


def test_keys_of_the_thesis_methods_are_what_they_were():
    """Made by the code before there were other networks and methods (commit e500e46)."""
    known = {
        "scratch": ("6d60f24f8eac6622", "6d60f24f8eac6622"),
        "ufm": ("3e7924f4aafa6959", "176ed783d5b0caae"),
        "l2t_ww": ("697d1be8746c6474", "8d9124ceca2e810f"),
        "l2t_www": ("f000cdaf5a6517df", "0eb7f4e516396eb8"),
    }
    registry.load()
    common = {"seed": 7, "data": {"name": "cifar10", "samples_per_class": 10}}
    plain = {"source": {"weights": "w.pt", "sha256": "ab"}}
    other = {"source": {**plain["source"], "arch": "resnet20"}, "transfer": {"pairs": ((2, 4), (0, 1))}}
    for name, keys in known.items():
        assert tuple(Run(method=name, **common, **more).key for more in (plain, other)) == keys


# intermediate training


def test_weights_tell_the_chain_of_their_trainings(tmp_path, monkeypatch):
    """Pretrained on 0 and 1, then on 2, 3 and 4; only the second is a source for intermediate fine-tuning."""
    monkeypatch.chdir(tmp_path)
    settings = {
        "source": {"arch": "resnet20", "width": WIDTH},
        "data": {"name": "digits", "classes": ["0", "1"], "samples_per_class": 4},
        "training": {"epochs": 1, "batch_size": 8},
    }
    chained = {**settings, "source": {**settings["source"], "weights": "first.pt"}}
    chained["data"] = {"name": "digits", "classes": ["2", "3", "4"], "samples_per_class": 4}
    for out, wanted in (("first.pt", settings), ("second.pt", chained)):
        Path("source.yaml").write_text(yaml.safe_dump({"out": out, **wanted}))
        assert pretrain(["source.yaml"]) == 0
    first, second = (
        models.load_source(Source(arch="resnet20", width=WIDTH, weights=f"{n}.pt")) for n in ("first", "second")
    )
    assert [part["classes"] for part in second.history] == [["0", "1"], ["2", "3", "4"]]
    assert json.loads(Path("second.json").read_text())["history"] == list(second.history)
    assert second.classes == ("2", "3", "4")
    registry.load()
    intermediate = registry.METHODS["intermediate_finetune"]
    assert intermediate.refuse(run("intermediate_finetune"), second, CLASSES) is None
    assert "got digits; train it on" in intermediate.refuse(run("intermediate_finetune"), first, CLASSES)


def test_a_training_starts_from_other_weights_but_for_the_classifier(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save(models.source_state(source()), "start.pt")
    text = yaml.safe_dump({
        "out": "out.pt",
        "source": {"arch": "resnet20", "width": WIDTH, "weights": "start.pt"},
        "data": {"name": "digits", "classes": ["0", "1"], "samples_per_class": 4},
        "training": {"epochs": 1, "batch_size": 8, "lr": 1e-30, "weight_decay": 0.0},
    })
    Path("source.yaml").write_text(text)
    assert pretrain(["source.yaml"]) == 0
    found, start = models.load_source(Source(arch="resnet20", width=WIDTH, weights="out.pt")), source()
    assert torch.equal(found.conv1.weight, start.conv1.weight)
    assert found.fc.weight.shape == (2, 8)
    assert json.loads(Path("out.json").read_text())["settings"]["source"]["sha256"]
    Path("start.pt").write_bytes(b"other")
    assert pretrain(["source.yaml"]) == 2  # other weights to start from are other settings
    assert "holds weights of other settings: source.sha256 is" in capsys.readouterr().err
    Path("source.yaml").write_text(text.replace("start.pt", "none.pt"))
    assert pretrain(["source.yaml"]) == 2
    assert "none.pt: source.weights must be a file" in capsys.readouterr().err


# the sweep files


@pytest.mark.parametrize(("name", "n_runs"), [("rivals", 260), ("rivals_digits", 78)])
def test_the_rivals_sweeps_can_be_planned(name, n_runs, tmp_path, monkeypatch):
    """26 cells of ten seeds, and 26 of three; every built-in method is there, and all weights have their recipes."""
    monkeypatch.chdir(tmp_path)
    for file in sorted(SWEEPS.glob("*.yaml")):
        if file.stem.startswith(("rivals_", "quickstart_source")) and file.stem != "rivals_digits":
            settings = yaml.safe_load(file.read_text())
            Path(settings["out"]).parent.mkdir(exist_ok=True)
            Path(settings["out"]).write_bytes(settings["out"].encode())
    Path("weights/resnet32-tinyimagenet.pt").write_bytes(b"published")
    sweep = read_sweep(SWEEPS / f"{name}.yaml")
    assert len(sweep.runs) == n_runs
    of_transformers = {"lora"}
    assert {run.method for run in sweep.runs.values()} == set(registry.METHODS) - of_transformers


@pytest.mark.parametrize("part", ["intermediate", "classes", "digits_first", "digits_second"])
def test_the_recipes_of_their_sources_can_be_read(part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = SWEEPS / f"rivals_{part}.yaml"
    text = yaml.safe_load(file.read_text())
    if start := text["source"].get("weights"):
        Path(start).parent.mkdir()
        Path(start).write_bytes(b"weights")
    assert read_pretraining(file).out == text["out"]
