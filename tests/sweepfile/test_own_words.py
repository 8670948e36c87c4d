"""yes, no, on and off without quotes, which YAML's versions read in two ways."""

import json
from pathlib import Path

import pytest
import yaml

from l2t_ray.sweepfile.yaml_lines import Dumper, parse_yaml
from tests.support.own_sweeps import HEAD, TRAINER, problems, read


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(TRAINER)


PLAIN = HEAD.replace("mine.py", "mine.py:plain")
OPEN = """
from dataclasses import dataclass
from typing import Any, Literal

@dataclass
class Settings:
    text: str = "a"
    texts: tuple[str, ...] = ()
    choice: Literal["on", "off"] = "on"
    either: bool | str = "a"
    anything: Any = None
    flag: bool = True

def train(settings: Settings, seed, context): return {}
def mapped(settings: dict[str, Any], seed, context): return {}
"""


def ambiguous(name, word, remedy, line=5):
    return f"s.yaml:{line}: settings.{name} must be true, false or a text in quotes, got {word}; {remedy} for the text"


@pytest.mark.parametrize("word", ["no", "No", "OFF"])
@pytest.mark.parametrize(
    "settings",
    ["{a: WORD}", "{a: [x, WORD]}", "{a: [[x, WORD]]}", "{a: [{b: WORD}]}"],
    ids=["one", "list", "in", "map"],
)
@pytest.mark.parametrize("head", [PLAIN, HEAD.replace("mine.py", "open.py:mapped")], ids=["plain", "map"])
def test_a_plain_no_is_refused_where_no_type_says_that_it_is_a_text(word, settings, head):
    Path("open.py").write_text(OPEN)
    text = f"{head}grid:\n- settings: {settings}\n  seed: 0\n"
    assert problems(text.replace("WORD", word)) == (ambiguous("a", word, f'write false, or "{word}"'),)
    for quote in "'\"":
        (run,) = [*read(text.replace("WORD", f"{quote}{word}{quote}")).runs.values()][-1:]
        assert word in json.dumps(run.settings)


def test_each_plain_word_is_told_at_its_line():
    text = f"{PLAIN}run:\n  settings:\n    s:\n      a: yes\n    b:\n    - on\n    - 'on'\n"
    assert problems(f"{text}grid:\n- seed: 0\n") == (
        ambiguous("s.a", "yes", 'write true, or "yes"', 7), ambiguous("b", "on", 'write true, or "on"', 9),
    )  # fmt: skip


def test_the_command_line_and_a_search_refuse_a_plain_no():
    text = PLAIN + "grid:\n- settings: {a: true, n: 1}\n  seed: 0\n"
    rule = "--set a=no: settings.a must be true, false or a text in quotes, got no"
    assert problems(text, overrides=["a=no"]) == (f"{rule}; write false, or '\"no\"' for the text",)
    assert [run.settings["a"] for run in read(text, overrides=['a="no"']).runs.values()] == ["no"]
    search = "search:\n  seeds: [9]\n  space:\n    a:\n    - 'yes'\n    - off\n"
    assert problems(text + search) == (ambiguous("a", "off", 'write false, or "off"', 12),)
    assert read(text + search.replace("off", "'off'")).search.studies[0].space[0].edges() == ["yes", "off"]


def test_a_type_says_what_a_plain_no_is():
    Path("open.py").write_text(OPEN)
    text = HEAD.replace("mine.py", "open.py") + "grid:\n- settings: {SETTINGS}\n  seed: 0\n"
    (run,) = read(text.replace("SETTINGS", "text: no, texts: [yes, no], choice: off")).runs.values()
    assert [run.settings[name] for name in ("text", "texts", "choice")] == ["no", ["yes", "no"], "off"]
    assert problems(text.replace("SETTINGS", "flag: no")) == (
        's.yaml:5: settings.flag must be true or false, got "no"; write false',
    )
    for name in ("either", "anything"):
        assert problems(text.replace("SETTINGS", f"{name}: no")) == (ambiguous(name, "no", 'write false, or "no"'),)


def test_a_file_that_is_written_quotes_its_words():
    written = yaml.dump({"a": ["no", "On", "yes", False]}, Dumper=Dumper)
    item, _ = parse_yaml(written, "f")
    assert item.plain() == {"a": ["no", "On", "yes", False]}
    assert [*item.words()] == []
