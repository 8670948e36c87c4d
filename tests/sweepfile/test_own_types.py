"""Types of settings: what they accept, record and refuse."""

from pathlib import Path

import pytest

from tests.support.own_sweeps import HEAD, TRAINER, problems, read


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(TRAINER)


TYPES = """
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, NamedTuple
from pydantic import AliasChoices, BaseModel, Field, SecretStr, field_serializer, field_validator, model_validator

class Read(BaseModel):
    lr: float = Field(0.1, validation_alias="learning_rate")
class Inner(BaseModel):
    read: list[Read] = []
class Choices(BaseModel):
    lr: float = Field(0.1, validation_alias=AliasChoices("lr", "rate"))
class Secretive(BaseModel):
    token: SecretStr = SecretStr("abc")
class Rounded(BaseModel):
    lr: float = 0.1
    @field_serializer("lr")
    def _write(self, value): return round(value)
@dataclass
class Now:
    at: float = field(default_factory=time.time)
    n: int = 1
class Sets(BaseModel):
    tags: set[str] = {"a", "bb", "ccc", "dddd", "e"}
    pairs: list[frozenset[int]] = [frozenset({3, 1})]
class Keyed(BaseModel):
    n: int = 1
    @field_validator("n")
    @classmethod
    def _known(cls, n): return {1: 1}[n]
@dataclass
class Typed:
    n: int = 1
    def __post_init__(self):
        if self.n == 14: raise TypeError("no 14")
class Row(NamedTuple):
    n: int = 1
class Kind(Enum):
    SMALL, LARGE = "small", "large"
class Adam(BaseModel):
    name: Literal["adam"] = "adam"
    lr: float = 0.1
class Sgd(Adam):
    name: Literal["sgd"] = "sgd"
class Closed(BaseModel):
    kind: Kind = Kind.SMALL
    only: Literal["a"] = "a"
    opt: Adam | Sgd = Field(Adam(), discriminator="name")
    tags: list[str] = []
    section: Adam = Adam()
    n: int = 1
    @model_validator(mode="after")
    def _unlucky(self):
        if self.n == 13: raise ValueError("n must not be 13")
        return self
class Same(BaseModel):
    lr: float = Field(0.1, alias="rate")

def _train(settings, seed, context): return {"error_percent": 1.0}
def make(kind):
    def train(settings: kind, seed, context): return {"error_percent": 1.0}
    return train
"""
ONE = "grid:\n- settings: SETTINGS\n  seed: {from: 0, to: 2}\n"


def told_once(text, line):
    """The one problem of a sweep file, which must be of this line."""
    (problem,) = problems(text)
    assert problem.startswith(f"s.yaml:{line}: ")
    return problem


def typed(kind, settings="{}"):
    Path("typed.py").write_text(f"{TYPES}\ntrain = make({kind})\n")
    return HEAD.replace("mine.py", "typed.py") + ONE.replace("SETTINGS", settings)


@pytest.mark.parametrize(
    ("kind", "settings", "line", "told"),
    [
        ("Read", "{lr: 1}", 2, "lr in the settings of train must be read and written by one name"),
        ("Read", "{learning_rate: 1}", 2, "write `alias=` instead"),
        ("Inner", "{read: [{lr: 1}]}", 2, "must be read and written by one name"),
        ("Choices", "{lr: 1}", 2, "must be read and written by one name"),
        ("Secretive", "{}", 5, "settings.token must not be a secret, because settings are recorded"),
        ("Secretive", "{token: x}", 5, "settings.token must not be a secret"),
        ("Rounded", "{lr: 0.3}", 5, "settings.lr must be the same when its record is read again"),
    ],
)
def test_settings_whose_record_would_be_others_are_refused(kind, settings, line, told):
    assert told in told_once(typed(kind, settings), line)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("{kind: smal}", 'settings.kind must be one of small, large, got "smal"; did you mean small?'),
        ("{only: b}", 'settings.only must be a, got "b"; known are a'),
        ("{opt: {name: agd, lr: 1}}", 'settings.opt.name must be one of adam, sgd, got "agd"; did you mean sgd?'),
        ("{tags: 3}", "settings.tags must be a list, got 3"),
        ("{section: 3}", "settings.section must be a map, got 3"),
        ("{n: 13}", "settings must be taken by the trainer's type: n must not be 13"),
    ],
)
def test_a_value_of_an_enum_a_union_or_a_section_is_told_with_what_it_may_be(settings, told):
    assert told in told_once(typed("Closed", settings), 5)


def test_an_alias_is_the_settings_name():
    assert next(iter(read(typed("Same", "{rate: 1}")).runs.values())).settings == {"rate": 1.0}


def test_a_default_that_changes_is_refused_unless_the_file_states_the_value():
    assert problems(typed("Now")) == (
        "s.yaml:5: settings.at must have a default that is always the same, because it is part of the run's key; "
        "state it in the file",
    )
    assert next(iter(read(typed("Now", "{at: 3}")).runs.values())).settings == {"at": 3.0, "n": 1}


def test_a_set_is_recorded_in_order_so_that_every_process_has_the_same_key():
    text = typed("Sets")
    settings = next(iter(read(text).runs.values())).settings
    assert settings == {"tags": ["a", "bb", "ccc", "dddd", "e"], "pairs": [[1, 3]]}
    assert next(iter(read(typed("Sets", "{tags: [b, a, b]}")).runs.values())).settings["tags"] == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "settings", "line", "told"),
    [
        ("Keyed", "{n: 2}", 5, "settings must be taken by the trainer's type, got KeyError: 2 (typed.py:"),
        ("Typed", "{n: 14}", 5, "settings must be taken by the trainer's type, got TypeError: no 14 (typed.py:"),
        ("Row", "{n: 2}", 2, "must be annotated with a pydantic model, a dataclass, dict or nothing, got Row"),
        ("list[int]", "{n: 2}", 2, "must be annotated with a pydantic model, a dataclass, dict or nothing, got list"),
    ],
)
def test_a_type_that_raises_or_does_not_fit_is_told_in_one_line(kind, settings, line, told):
    problem = told_once(typed(kind, settings), line)
    assert told in problem
    numbers = {"Keyed": "return {1: 1}[n]", "Typed": "raise TypeError"}
    if kind in numbers:
        at = next(n for n, text in enumerate(Path("typed.py").read_text().splitlines(), 1) if numbers[kind] in text)
        assert f"typed.py:{at})" in problem
