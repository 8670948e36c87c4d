"""Runs and their keys: what changes a key, what must not, and what is no run at all."""

import hashlib
import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from l2t_ray import registry
from l2t_ray.config import Execution, Run
from l2t_ray.sweepfile import schema
from l2t_ray.sweepfile.schema import sweep_schema
from tests.support.sweepfiles import DESIGN_EXAMPLE

registry.load()


@dataclass(frozen=True)
class Tuned:
    """A method with options of every type."""

    name: str = "tuned"
    uses: frozenset[str] = frozenset()
    options: Mapping[str, registry.Scalar] = field(
        default_factory=lambda: {"weight": 1.0, "steps": 3, "warm": False, "kind": "l2"}
    )


@pytest.fixture(autouse=True)
def _tuned(monkeypatch):
    monkeypatch.setitem(registry.METHODS, "tuned", Tuned())


def make(method="ufm", seed=0, **settings):
    data = {"name": "cifar10", "samples_per_class": 10, **settings.pop("data", {})}
    return Run.model_validate({"method": method, "seed": seed, "data": data, **settings})


# gate


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"colour": 1}, "colour"),
        ({"training": {"epoch": 1}}, "training.epoch"),
        ({"training": {"epochs": "3"}}, "training.epochs"),
        ({"training": {"epochs": 3.0}}, "training.epochs"),
        ({"training": {"epochs": True}}, "training.epochs"),
        ({"training": {"lr": math.nan}}, "training.lr"),
        ({"training": {"lr": math.inf}}, "training.lr"),
        ({"training": {"lr": 0.0}}, "training.lr"),
        ({"transfer": {"beta": -0.1}}, "transfer.beta"),
        ({"transfer": {"pairs": ((3, 0),)}}, "transfer.pairs must name source levels 0 to 2 of resnet32"),
        ({"transfer": {"pairs": ((0, 5),)}}, "transfer.pairs must name"),
        ({"transfer": {"pairs": ((0, 3),)}, "target": {"arch": "resnet20"}}, "target levels 0 to 2 of resnet20, got"),
        ({"transfer": {"pairs": ((6, 0),)}, "source": {"arch": "vit"}}, "source levels 0 to 5 of vit"),
        ({"transfer": {"pairs": ((-1, 0),)}}, "transfer.pairs"),
        ({"transfer": {"pairs": ((0, 0), (0, 0))}}, "each one once"),
        ({"transfer": {"pairs": ()}}, "transfer.pairs"),
        ({"data": {"samples_per_class": 0}}, "data.samples_per_class"),
        ({"data": {"samples_per_class": {}}}, "data.samples_per_class"),
        ({"data": {"classes": ("cat",)}}, "data.classes"),
        ({"data": {"title": "a/b"}}, "data.title"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**31}, "seed"),
        ({"method": "ufmm"}, "must be one of"),
        ({"options": {"weight": 1.0}}, "weight is no option of ufm"),
        ({"method": "tuned", "options": {"steps": 1.0}}, "must be of the type of its default 3, int"),
        ({"method": "tuned", "options": {"warm": 1}}, "must be of the type of its default False, bool"),
        ({"method": "tuned", "options": {"weight": True}}, "must be of the type of its default 1.0, float"),
    ],
)
def test_what_is_no_run_is_refused(settings, told):
    with pytest.raises(ValidationError, match=told.replace(".", r"\.")):
        make(**settings)


@pytest.mark.parametrize("share", [1, 0.5, 1 / 3, 0.33, 0.25, 0.2, 0.142857, 1e-3])
def test_shares_of_a_gpu_are_unit_fractions(share):
    assert Execution(gpu_share=share).gpu_share == share


@pytest.mark.parametrize("share", [0, -0.5, 1.5, 0.6, 0.4, 0.15, 0.34])
def test_shares_that_would_leave_a_rest_are_refused(share):
    with pytest.raises(ValidationError, match="gpu_share"):
        Execution(gpu_share=share)


def test_a_run_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        make().seed = 1


# basics


def test_a_key_is_the_hash_of_the_resolved_settings_as_sorted_json():
    text = (
        '{"augment":{"crop_padding":4,"flip":true},'
        '"data":{"classes":null,"name":"cifar10","samples_per_class":10,"sha256":null},'
        '"method":"scratch","record":{"evaluations":10,"per_class":false},"seed":7,'
        '"target":{"arch":"vgg9","width":1.0},'
        '"training":{"batch_size":128,"epochs":200,"lr":0.1,"momentum":0.9,"precision":"float32","weight_decay":0.0001}}'
    )
    assert json.dumps(make("scratch", 7).resolved(), sort_keys=True, separators=(",", ":")) == text
    assert make("scratch", 7).key == "6d60f24f8eac6622"  # printf %s "$text" | sha256sum | cut -c -16


def test_an_imbalanced_set_has_the_key_that_it_always_had():
    run = make("scratch", 7, data={"samples_per_class": {"*": 5, "cat": 1}})
    assert run.resolved()["data"]["samples_per_class"] == {"*": 5, "cat": 1}
    text = json.dumps(make("scratch", 7).resolved(), sort_keys=True, separators=(",", ":"))
    text = text.replace('"samples_per_class":10', '"samples_per_class":{"*":5,"cat":1}')
    assert run.key == "677670307c8b76df"  # printf %s "$text" | sha256sum | cut -c -16
    assert run.key == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_options_are_filled_in_with_their_defaults():
    run = make("tuned", options={"steps": 5, "weight": 2})
    assert run.options == {"weight": 2.0, "steps": 5, "warm": False, "kind": "l2"}
    assert isinstance(run.options["weight"], float)


# identities

SAME = [
    ("a default written out", {}, {"training": {"epochs": 200}, "transfer": {"beta": 0.5}}),
    ("a whole number for a real one", {"training": {"lr": 1}}, {"training": {"lr": 1.0}}),
    ("minus zero", {"transfer": {"beta": -0.0}}, {"transfer": {"beta": 0.0}}),
    ("the order of pairs", {"transfer": {"pairs": ((1, 1), (0, 0))}}, {"transfer": {"pairs": ((0, 0), (1, 1))}}),
    ("the place of the weights", {"source": {"weights": "a.pt"}}, {"source": {"weights": "b/c.pt"}}),
    ("the place of the images", {"data": {"path": "a"}}, {"data": {"path": "b.tar"}}),
    ("the title", {"data": {"title": "A"}}, {}),
    ("ufm's meta learning rate", {"transfer": {"meta_lr": 1.0}}, {}),
    ("scratch's source", {"method": "scratch", "source": {"sha256": "ab", "width": 2}}, {"method": "scratch"}),
    ("scratch's transfer", {"method": "scratch", "transfer": {"beta": 3}}, {"method": "scratch"}),
    (
        "the order of classes in a map",
        {"data": {"samples_per_class": {"*": 5, "cat": 1}}},
        {"data": {"samples_per_class": {"cat": 1, "*": 5}}},
    ),
    (
        "a map of as many of each class",
        {"data": {"samples_per_class": {"*": 5}}},
        {"data": {"samples_per_class": 5}},
    ),
    ("an option's default", {"method": "tuned", "options": {"weight": 1}}, {"method": "tuned"}),
]
DIFFERENT = [
    ("the seed", {"seed": 1}),
    ("the method", {"method": "l2t_ww"}),
    ("what the weights contain", {"source": {"sha256": "ab"}}),
    ("what the images are", {"data": {"sha256": "ab"}}),
    ("the classes' order", {"data": {"classes": ("cat", "dog")}}),
    ("ufm's beta", {"transfer": {"beta": 0.4}}),
    ("ufm's pairs", {"transfer": {"pairs": "single"}}),
    ("the batch size", {"training": {"batch_size": 64}}),
    ("flips", {"augment": {"flip": False}}),
]


@pytest.mark.parametrize(("one", "other"), [case[1:] for case in SAME], ids=[case[0] for case in SAME])
def test_a_key_does_not_change_with(one, other):
    assert make(**one).key == make(**other).key


@pytest.mark.parametrize("settings", [case[1] for case in DIFFERENT], ids=[case[0] for case in DIFFERENT])
def test_a_key_changes_with(settings):
    assert make(**settings).key != make().key


def test_an_option_changes_the_key():
    assert make("tuned", options={"steps": 4}).key != make("tuned").key


def test_scratch_has_neither_source_nor_transfer():
    assert {"source", "transfer", "options"}.isdisjoint(make("scratch", source={"weights": "a.pt"}).resolved())


def test_a_copied_run_forgets_its_key():
    run = make()
    key = run.key
    copied = run.model_copy(update={"seed": 1})
    assert copied.key == make(seed=1).key != key


def test_a_copied_run_forgets_what_its_key_was_made_of():
    run = make()
    assert run.key  # computed, and kept with the text around the seed
    copied = run.model_copy(update={"training": run.training.model_copy(update={"lr": 0.5})})
    fresh = make(training={**make().model_dump()["training"], "lr": 0.5})
    assert copied.key == fresh.key != run.key
    assert [r.key for r in copied.with_seeds([3])] == [r.key for r in fresh.with_seeds([3])]


def test_a_pickled_run_is_equal_and_keeps_its_key():
    run = make(source={"sha256": "ab"})
    key = run.key
    again = pickle.loads(pickle.dumps(run))
    assert again == run
    assert again.key == key


@given(st.lists(st.integers(0, 2**31 - 1), max_size=5), st.sampled_from(["scratch", "ufm", "l2t_www", "tuned"]))
def test_a_cells_fast_keys_are_those_of_its_runs(seeds, method):
    runs = list(make(method, source={"sha256": '",seed":3,'}).with_seeds(seeds))
    assert [run.seed for run in runs] == seeds
    for run in runs:
        text = json.dumps(run.resolved(), sort_keys=True, separators=(",", ":"))
        assert run.key == hashlib.sha256(text.encode()).hexdigest()[:16] == make(**run.model_dump()).key


# the schema for editors


def test_the_schema_takes_the_example_of_the_design():
    schema = sweep_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(DESIGN_EXAMPLE), schema)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("epochs", "epoch"),
        ("ufm,", "ufmm,"),
        ("from: 0", "from: -1"),
        ("stl10", "stl11"),
        ("[5,", "['5',"),
        ("retries: 2", "retries: two"),
        ("sweep: paper_grid", "sweep: paper/grid"),
        ("sweep: paper_grid", "swep: paper_grid"),
    ],
)
def test_the_schema_refuses(old, new):
    assert old in DESIGN_EXAMPLE
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(DESIGN_EXAMPLE.replace(old, new)), sweep_schema())


def test_the_command_prints_the_schema_with_the_methods(capsys):
    assert schema.main(["json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    methods = printed["$defs"]["Block"]["properties"]["method"]["anyOf"][0]["enum"]
    assert {"scratch", "ufm", "l2t_ww", "l2t_www"} <= set(methods)


def test_the_command_says_how_it_is_used(capsys):
    assert schema.main([]) == 2
    assert "usage" in capsys.readouterr().err
