"""What tests of sweep files of one's own trainer share: a trainer, and a file of it that is read."""

from pathlib import Path

import pytest

from l2t_ray.errors import InputError
from l2t_ray.sweepfile.read import read_sweep

TRAINER = """
from dataclasses import dataclass

@dataclass
class Settings:
    model: str
    lr: float = 0.1
    n: int = 10
    layers: tuple[int, ...] = ()

def train(settings: Settings, seed: int, context):
    return {"error_percent": 1.0}

def plain(settings, seed, context):
    return {"error_percent": 1.0}

def few(settings):
    return {}

def odd(settings: open, seed, context):
    return {}
"""
HEAD = "sweep: s\ntrainer: mine.py\nmetric: {name: error_percent, lower_is_better: true}\n"
GRID = "grid:\n- settings: {model: [a, b]}\n  seed: {from: 0, to: 2}\n"


def read(text, **more):
    Path("s.yaml").write_text(text)
    return read_sweep(Path("s.yaml"), **more)


def problems(text, **more):
    with pytest.raises(InputError) as error:
        read(text, **more)
    return error.value.problems


def cells(text, **more):
    return [*dict.fromkeys(read(text, **more).cells.values())]
