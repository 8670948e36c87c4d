"""Sweep files that are almost right, through the command line: planned, or refused with a place and exit code 2."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from l2t_ray import sweep
from tests.fuzz.hostile import check_refusal, command, damaged, inputs, snapshot

WHOLE = """\
sweep: whole
run:
  data: {name: digits, classes: ["0", "1", "2"]}
  source: {arch: resnet20, width: 0.5, weights: net.pt}
  target: {width: 0.25}
  training: {epochs: 4, batch_size: 16, lr: 0.1}
  augment: {flip: false}
  record: {evaluations: 2}
grid:
- data: {samples_per_class: [1, 2, {"*": 3, "0": 1}]}
  method: [scratch, ufm]
  seed: {from: 0, to: 2}
- data: {samples_per_class: 2}
  method: l2t_www
  seed: [0, 5]
  transfer: {beta: [0.1, 0.5], pairs: one_to_one}
  variant: other
execution: {gpu_share: 0.25, pack: 2, retries: 1, storage: kept, data_dir: data, hang_s: 10, mps: "off"}
"""
SEARCHED = f"""{WHOLE.replace("[0.1, 0.5]", "0.1")}
search:
  space: {{training.lr: {{low: 0.01, high: 0.1}}, transfer.beta: [0.1, 0.5]}}
  seeds: {{from: 100, to: 101}}
  trials: 3
  validation_per_class: 5
"""
DESIGNED = f"""{WHOLE.replace("to: 2", "to: 5")}
design: {{looks: [5, 6], alpha: 0.05, futility: 0.1, compare: [ufm, scratch]}}
"""
OWN = """\
sweep: own
trainer: mine.py
metric: {name: acc_percent, lower_is_better: false, margin: 0.5}
method: model
axis: n
run: {settings: {lr: 0.1}}
grid:
- settings: {model: [a, b], n: [1, 2]}
  seed: {from: 0, to: 2}
execution: {retries: 1, storage: kept}
search: {space: {lr: {low: 1, high: 10, log: true}, layers: [1, 2]}, seeds: [100], trials: 3, objective: acc_percent}
"""
TRAINER = """\
from dataclasses import dataclass


@dataclass
class Settings:
    model: str
    lr: float = 0.1
    n: int = 10
    layers: int = 0


def train(settings: Settings, seed, context):
    return {"acc_percent": 1.0}
"""
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([
        "",
        "../../etc/passwd",
        "s3://",
        "s3://user:secret@bucket",
        "ftp://host/x",
        "net.pt",
        "nul\0",
        "two\nlines",
        "two\u2028lines",
        "long" * 100,
        "é",
    ]),
    st.just([]),
    st.just({}),
    st.lists(st.integers(-2, 5), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(-2, 5), max_size=2),
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.pt").write_bytes(b"weights")
    Path("mine.py").write_text(TRAINER)
    return tmp_path


def places(value, path=()):
    """The paths to every value of a document."""
    yield path
    if isinstance(value, dict):
        for name, child in value.items():
            yield from places(child, (*path, name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from places(child, (*path, index))


@st.composite
def documents(draw):
    """A file's document with one to three values replaced, removed, renamed or repeated."""
    document = yaml.safe_load(draw(st.sampled_from([WHOLE, SEARCHED, DESIGNED, OWN])))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([found for found in places(document) if found]))
        parent = document
        for step in path[:-1]:
            parent = parent[step]
        kind = draw(st.sampled_from(["replace", "replace", "remove", "rename", "repeat"]))
        if kind == "remove":
            del parent[path[-1]]
        elif kind == "rename" and isinstance(parent, dict):
            parent[draw(st.text(max_size=6))] = parent.pop(path[-1])
        elif kind == "repeat" and isinstance(parent, list):
            parent.append(parent[path[-1]])
        else:
            parent[path[-1]] = draw(VALUES)
    return yaml.safe_dump(document, allow_unicode=True, sort_keys=False).encode("utf-8", "surrogatepass")


def check(folder, content, tried, kind):
    Path("odd.yaml").write_bytes(content)
    before = snapshot(folder)
    code, out, err = command(sweep.main, "odd.yaml", "--plan")
    if code == 0:
        assert out
        assert snapshot(folder) == before
        tried(kind, "planned")
        return
    check_refusal(code, out, err, before, folder)
    assert all(line.startswith("odd.yaml:") for line in err.splitlines()), err
    check_refusal(*command(sweep.main, "odd.yaml"), before, folder)  # a launch starts nothing either
    assert not (folder / ".l2t").exists()
    tried(kind, "refused")


@inputs(140)
@given(documents())
def test_a_document_that_is_almost_right_is_planned_or_refused(folder, tried, content):
    check(folder, content, tried, "sweep files, by value")


@inputs(80)
@given(damaged(WHOLE.encode()))
def test_a_file_with_damaged_bytes_is_planned_or_refused(folder, tried, content):
    check(folder, content, tried, "sweep files, by byte")


@pytest.mark.parametrize("text", [WHOLE, SEARCHED, DESIGNED, OWN], ids=["whole", "searched", "designed", "own"])
def test_the_whole_file_is_planned(text):
    Path("whole.yaml").write_text(text)
    code, out, _ = command(sweep.main, "whole.yaml", "--plan", "--json")
    assert code == 0
    assert f'"sweep": "{yaml.safe_load(text)["sweep"]}"' in out
