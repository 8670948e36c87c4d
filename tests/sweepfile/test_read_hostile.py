"""Sweep files: that long ones are read fast, and that whatever is done to them is read or refused."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2t_ray.config import Run
from l2t_ray.errors import InputError
from l2t_ray.sweepfile.read import read_sweep
from tests.support.sweepfiles import DIGITS, changed, grid, read

pytestmark = pytest.mark.usefixtures("sweep_folder")


def test_settings_are_checked_and_encoded_once_a_cell_however_many_runs_it_has(monkeypatch):
    """The time of a file of 100,000 runs is that of its 20 cells, and of a hash a run."""
    done = {"__init__": 0, "resolved": 0}

    def counted(name, function):
        def call(self, *arguments, **values):
            done[name] += 1
            return function(self, *arguments, **values)

        return call

    for name in done:
        monkeypatch.setattr(Run, name, counted(name, getattr(Run, name)))
    lists = {"samples_per_class": "[5, 10, 20, 50, 100]", "method": "[scratch, ufm, l2t_ww, l2t_www]"}
    read(grid(changed(name="cifar10", seed="{from: 0, to: 9}", **lists)))
    of_few = dict(done)
    sweep = read(grid(changed(name="cifar10", seed="{from: 0, to: 4999}", **lists)))
    assert {name: number - of_few[name] for name, number in done.items()} == of_few
    assert 20 <= of_few["resolved"] <= 60
    assert of_few["__init__"] == 20
    assert len(sweep.runs) == 100_000
    some = random.Random(0).sample(sorted(sweep.runs.items()), 200)
    assert all(type(run).model_validate(run.model_dump()).key == key for key, run in some)


WHOLE = f"""\
sweep: s
run:
  source: {{weights: net.pt}}
  training: {{epochs: 3}}
grid:
  - data: {{name: digits, samples_per_class: [5, {{'*': 3, '1': 2}}], classes: ['1', '2']}}
    method: [scratch, ufm]
    seed: {{from: 0, to: 2}}
    transfer: {{beta: [0.1, 0.5], pairs: [all, [[0, 1]]]}}
    variant: v
  - {DIGITS}
execution: {{gpu_share: 0.5, pack: 1}}
"""
ODD = [
    *("null", "[]", "{}", "-1", "1e999", "x", "''", "[[]]", "[null]", "{a: b}", "true", "!!x y", "*a", "&a [1]"),
    *("'\\ud800'", '"\\ud800"', "9" * 30, ".nan", "[[[0]]]", "{from: 1, to: x}", "- a", ":", "\t", "\n", "?"),
]


def problems_of(path, **selection):
    """What is told of a file, or what is wrong with the sweep that it gives."""
    try:
        sweep = read_sweep(path, **selection)
    except InputError as error:
        return [*error.problems]
    return [] if all(run.key == key for key, run in sweep.runs.items()) else ["wrong keys"]


@settings(max_examples=150)
@given(st.data())
def test_whatever_is_done_to_a_file_it_is_read_or_refused(data):
    letters = [*WHOLE]
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(letters) - 1))
        end = min(len(letters), start + data.draw(st.integers(0, 12)))
        letters[start:end] = data.draw(st.sampled_from(ODD) | st.text(max_size=4))
    path = Path("odd.yaml")
    path.write_bytes("".join(letters).encode(errors="surrogatepass"))
    for line in problems_of(path):
        assert line.startswith("odd.yaml:")
        assert "\n" not in line


LEAVES = [
    *("data.name", "data.samples_per_class", "data.classes", "data.path", "method", "seed", "transfer.pairs", "run"),
    *(
        "transfer.beta",
        "training",
        "options",
        "options.x",
        "source.weights",
        "execution",
        "execution.pack",
        "sweep",
        "",
    ),
]


@settings(max_examples=80)
@given(st.sampled_from(LEAVES), st.sampled_from(ODD))
def test_whatever_is_overridden_it_is_read_or_refused(name, value):
    path = Path("whole.yaml")
    path.write_text(WHOLE)
    assert "wrong keys" not in problems_of(path, overrides=[f"{name}={value}"])


def test_the_file_that_is_mutated_is_whole():
    path = Path("whole.yaml")
    path.write_text(WHOLE)
    assert (
        len(read_sweep(path).runs) == 3 * 2 * (1 + 2 * 2) + 1
    )  # seeds, samples, (scratch, and ufm by beta and pairs), and one
