"""Sweep files as text for tests, and what is told of them."""

import textwrap
from pathlib import Path

import pytest

from l2t_ray.errors import InputError
from l2t_ray.sweepfile.read import read_sweep

METHOD = """
from l2t_ray.methods import Method
from l2t_ray.registry import register

register(Method("mine", uses=frozenset({"transfer.beta"}), options={"strength": 1.0, "steps": 3}))
"""

DESIGN_EXAMPLE = """
sweep: paper_grid
run:
  source: {arch: resnet32, weights: weights/resnet32-tinyimagenet.pt}
  training: {epochs: 200}
grid:
  - data: {name: stl10, samples_per_class: [5, 10, 30, 50, 100]}
    method: [scratch, ufm, l2t_ww, l2t_www]
    seed: {from: 0, to: 29}
execution: {gpu_share: auto, pack: auto, retries: 2}
"""


def read(text, **selection):
    path = Path("sweep.yaml")
    path.write_text(textwrap.dedent(text).lstrip("\n"))
    return read_sweep(path, **selection)


def grid(*blocks, head=""):
    """A file with these blocks; the first is in line 3 if there is no head."""
    head = textwrap.dedent(head).strip()
    return "\n".join(["sweep: s", *([head] if head else []), "grid:", *(f"- {block}" for block in blocks)])


def cells(text, **selection):
    sweep = read(text, **selection)
    return list(dict.fromkeys(sweep.cells.values()))


def keys(text, **selection):
    return set(read(text, **selection).runs)


def problems(text, **selection):
    with pytest.raises(InputError) as caught:
        read(text, **selection)
    return caught.value.problems


DIGITS = "{data: {name: digits, samples_per_class: 5}, method: scratch, seed: 0}"
UFM = "{data: {name: digits, samples_per_class: 5}, method: ufm, source: {weights: net.pt}, seed: 0}"


def changed(block=UFM, **parts):
    """The block with these parts in the place of its own."""
    for name, value in parts.items():
        start = block.find(f"{name}: ")
        if start < 0:
            block = f"{block[:-1]}, {name}: {value}}}"
            continue
        start, depth = start + len(name) + 2, 0
        for end in range(start, len(block)):
            depth += (block[end] in "[{") - (block[end] in "]}")
            if depth < 0 or (depth == 0 and block[end] == ","):
                break
        block = f"{block[:start]}{value}{block[end:]}"
    return block
