"""What a trainer's settings must be: completed by its type, and every mistake at its path."""

from dataclasses import dataclass, field
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, computed_field

from l2t_ray.trainer.form import Form, FormError
from l2t_ray.trainer.names import dotted, nested


@dataclass
class Optimizer:
    lr: float = 0.1
    name: str = "adam"


@dataclass
class Classic:
    layers: list[int]
    optimizer: Optimizer = field(default_factory=Optimizer)
    n: int = 3


class Model(BaseModel):
    lr: float = Field(gt=0)
    kind: Literal["a", "b"] = "a"
    more: dict[str, float] = {}


class Strict(Model):
    model_config = ConfigDict(extra="forbid")


CLASSIC, MODEL, STRICT = (Form(TypeAdapter(kind), kind) for kind in (Classic, Model, Strict))


def wrong(form, settings):
    with pytest.raises(FormError) as error:
        form.complete(settings)
    return {(".".join(map(str, one.path)), one.kind) for one in error.value.wrong}


def test_names_and_nesting_are_inverse():
    settings = {"a": 1, "b": {"c": 2, "d": {"e": [1, 2]}}, "f": {}}
    assert nested(dotted(settings)) == settings
    assert dotted(settings) == {"a": 1, "b.c": 2, "b.d.e": [1, 2], "f": {}}


def test_defaults_are_filled_in_and_whole_numbers_become_what_the_type_says():
    assert CLASSIC.complete({"layers": [1, 2], "optimizer.lr": 1}) == {
        "layers": [1, 2], "optimizer.lr": 1.0, "optimizer.name": "adam", "n": 3,
    }  # fmt: skip
    assert MODEL.complete({"lr": 1, "more.x": 2}) == {"lr": 1.0, "kind": "a", "more.x": 2.0}
    assert MODEL.complete({"lr": 1, "more": {}}) == MODEL.complete({"lr": 1.0})


@pytest.mark.parametrize("form", [CLASSIC, MODEL, STRICT], ids=["dataclass", "model", "forbidding"])
def test_completing_twice_is_completing_once(form):
    once = form.complete({"layers": [1]} if form is CLASSIC else {"lr": 0.5})
    assert form.complete(once) == once


def test_the_trainer_gets_its_own_type():
    built = CLASSIC.build({"layers": [3], "optimizer.lr": 0.5})
    assert built == Classic([3], Optimizer(0.5))
    assert Form(None).build({"a.b": 1}) == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("form", "settings", "told"),
    [
        (CLASSIC, {"layers": [1], "optimizer.lrr": 1}, {("optimizer.lrr", "unknown")}),
        (CLASSIC, {"layer": [1]}, {("layer", "unknown"), ("layers", "missing")}),
        (CLASSIC, {"layers": [1, "a"], "optimizer.lr": "0.1"},
         {("layers.1", "int_type"), ("optimizer.lr", "float_type")}),
        (CLASSIC, {"layers": [1], "n": True}, {("n", "int_type")}),
        (CLASSIC, {"layers": [1], "optimizer": 3}, {("optimizer", "dataclass_type")}),
        (MODEL, {"lr": -1}, {("lr", "greater_than")}),
        (MODEL, {"lr": 1, "kind": "c"}, {("kind", "literal_error")}),
        (MODEL, {"lr": float("inf")}, {("lr", "finite_number")}),
        (MODEL, {"lr": 1, "knd": "a"}, {("knd", "unknown")}),
        (STRICT, {"lr": 1, "knd": "a"}, {("knd", "unknown")}),
    ],
)  # fmt: skip
def test_every_mistake_is_told_at_its_path(form, settings, told):
    assert wrong(form, settings) == told


def test_a_list_is_one_value_where_the_type_is_a_list():
    assert CLASSIC.takes_list("layers")
    assert not CLASSIC.takes_list("n")
    assert not Form(None).takes_list("layers")
    assert CLASSIC.is_float("optimizer.lr")
    assert not CLASSIC.is_float("n")


class Sections(BaseModel):
    model_config = ConfigDict(extra="forbid")
    blocks: list[Model]
    lr: float = 0.5

    @computed_field
    @property
    def double(self) -> float:
        return 2 * self.lr


def test_an_unknown_name_in_a_list_of_sections_is_told():
    form = Form(TypeAdapter(Sections), Sections)
    assert wrong(form, {"blocks": [{"lr": 1.0}, {"lr": 2.0, "kin": "b"}]}) == {("blocks.1.kin", "unknown")}


def test_a_computed_field_is_no_setting():
    form = Form(TypeAdapter(Sections), Sections)
    assert form.complete({"blocks": []}) == {"blocks": [], "lr": 0.5}
    assert form.build({"blocks": [], "lr": 0.5}).double == 1.0
