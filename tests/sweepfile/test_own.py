"""A sweep file of a trainer of one's own: cells, keys, and every mistake at its line."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from l2t_ray.errors import InputError
from l2t_ray.ledger.manifest import manifest
from l2t_ray.sweepfile.own_names import Factors
from l2t_ray.sweepfile.read import read_sweep
from l2t_ray.sweepfile.yaml_lines import Dumper, parse_yaml
from l2t_ray.trainer.spec import Spec

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


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(TRAINER)


def read(text, **more):
    Path("s.yaml").write_text(text)
    return read_sweep(Path("s.yaml"), **more)


def problems(text, **more):
    with pytest.raises(InputError) as error:
        read(text, **more)
    return error.value.problems


def cells(text, **more):
    return [*dict.fromkeys(read(text, **more).cells.values())]


def test_a_key_is_the_hash_of_settings_seed_and_content():
    sweep = read(HEAD + GRID)
    sha256 = hashlib.sha256(TRAINER.encode()).hexdigest()
    settings = {"layers": [], "lr": 0.1, "model": "a", "n": 10}
    tail = json.dumps({"settings": settings, "trainer": {"function": "train", "sha256": sha256}}, sort_keys=True,
                      separators=(",", ":"))  # fmt: skip
    key = hashlib.sha256(f'{{,"seed":0,{tail[1:]}'.encode()).hexdigest()[:16]
    assert next(iter(sweep.runs)) == key
    assert next(iter(sweep.runs.values())).key == key


def test_an_edited_trainer_is_another_run_and_a_moved_one_is_not():
    before = read(HEAD + GRID).runs.keys()
    Path("elsewhere").mkdir()
    shutil.move("mine.py", "elsewhere/renamed.py")
    assert read(HEAD.replace("mine.py", "elsewhere/renamed.py") + GRID).runs.keys() == before
    Path("mine.py").write_text(TRAINER + "# edited\n")
    assert not read(HEAD + GRID).runs.keys() & before


def test_a_version_keeps_the_key_for_edits_and_tells_two_trainers_of_one_name_apart():
    stated = HEAD.replace("trainer: mine.py", "trainer: {function: mine.py, version: 2}")
    before = read(stated + GRID)
    Path("mine.py").write_text(TRAINER + "# edited\n")
    after = read(stated + GRID)
    assert after.runs.keys() == before.runs.keys()
    codes = [next(iter(sweep.runs.values())).code["mine.py"] for sweep in (before, after)]
    assert codes[0] != codes[1]  # the ledger still tells which file it was
    assert not read(stated.replace("version: 2", "version: 3") + GRID).runs.keys() & before.runs.keys()
    Path("other").mkdir()
    Path("other/mine.py").write_text(TRAINER)
    assert not read(stated.replace("mine.py", "other/mine.py") + GRID).runs.keys() & before.runs.keys()


def test_two_files_of_one_name_are_two_trainers_in_one_process():
    Path("other").mkdir()
    Path("other/mine.py").write_text(TRAINER.replace("n: int = 10", "n: int = 20"))
    first, second = (read(HEAD.replace("mine.py", name) + GRID) for name in ("mine.py", "other/mine.py"))
    assert [next(iter(sweep.runs.values())).settings["n"] for sweep in (first, second)] == [10, 20]


def test_further_files_count_with_their_content():
    stated = HEAD.replace("trainer: mine.py", "trainer: {function: mine.py, files: [data.csv]}")
    Path("data.csv").write_text("1")
    before = read(stated + GRID).runs.keys()
    Path("data.csv").write_text("2")
    assert not read(stated + GRID).runs.keys() & before


def test_settings_that_a_type_makes_equal_are_one_run():
    assert (
        read(HEAD + GRID + "run: {settings: {lr: 1}}\n").runs.keys()
        == read(HEAD + GRID + "run: {settings: {lr: 1.0}}\n").runs.keys()
    )


@pytest.mark.parametrize(
    ("head", "settings", "names"),
    [
        ("", "{model: [a, b]}", ["mine/-/a", "mine/-/b"]),
        ("", "{model: a, lr: [0.1, 0.2]}", ["mine/-/lr=0.1", "mine/-/lr=0.2"]),
        ("", "{model: a}", ["mine/-/mine"]),
        ("axis: settings.n\n", "{model: [a, b], n: [1, 2]}", ["mine/1/a", "mine/2/a", "mine/1/b", "mine/2/b"]),
        ("method: model\n", "{model: [a, b], n: [1]}", ["mine/-/a", "mine/-/b"]),
        ("method: model\naxis: n\n", "{model: a, n: [1, 2], lr: [1, 2]}",
         ["lr=1.0/1/a", "lr=2.0/1/a", "lr=1.0/2/a", "lr=2.0/2/a"]),
        ("method: [model, lr]\n", "{model: a, lr: [1, 2]}", ["mine/-/model=a,lr=1.0", "mine/-/model=a,lr=2.0"]),
        ("data: model\nmethod: lr\n", "{model: a, lr: [1, 2]}", ["a/-/lr=1.0", "a/-/lr=2.0"]),
        ("", "{model: a, layers: [3, 3]}", ["mine/-/mine"]),
        ("", "{model: a, layers: [[3, 3], [4]]}", ["mine/-/layers=[3,3]", "mine/-/layers=[4]"]),
    ],
)  # fmt: skip
def test_cells_are_named_by_what_varies(head, settings, names):
    found = cells(f"{HEAD}{head}grid:\n- settings: {settings}\n  seed: 0\n")
    assert sorted(found) == sorted(names)


def test_blocks_with_variants_are_compared_by_them():
    grid = "grid:\n- {variant: small, settings: {model: a, n: 1}, seed: 0}\n"
    grid += "- {variant: big, settings: {model: b, n: 2}, seed: 0}\n"
    sweep = read(HEAD + grid)
    assert [*sweep.cells.values()] == ["mine/-/small", "mine/-/big"]
    assert sweep.factors == Factors("trainer", "", "variant")


def test_the_manifest_tells_the_metric_and_the_titles():
    found = manifest(read(HEAD + "axis: n\n" + GRID))
    assert found["metric"] == {"name": "error_percent", "lower_is_better": True, "margin": 1.0}
    assert found["factors"] == {"data": "trainer", "axis": "n", "method": "model"}
    assert found["runs"][0] | {"key": ""} == {
        "key": "", "cell": "mine/10/a", "seed": 0, "data": "mine", "samples_per_class": "10", "method": "a",
        "epochs": 1,
    }  # fmt: skip


def test_a_block_replaces_a_section_of_the_run():
    Path("plain.py").write_text("def train(settings, seed, context): return {}\n")
    head = HEAD.replace("mine.py", "plain.py")
    text = f"{head}run: {{settings: {{optimizer: {{name: adam, lr: 1}}, n: 1}}}}\n"
    text += "grid:\n- {settings: {optimizer: none}, seed: 0}\n- {settings: {n: 2}, seed: 0}\n"
    first, second = (run.settings for run in read(text + "method: n\n").runs.values())
    assert first == {"n": 1, "optimizer": "none"}
    assert second == {"optimizer.name": "adam", "optimizer.lr": 1, "n": 2}


def test_the_command_line_names_settings_with_and_without_their_section():
    text = HEAD + "method: model\naxis: n\ngrid:\n- settings: {model: [a, b], n: [1, 2]}\n  seed: [0, 1]\n"
    assert len(read(text, where=["model=a", "settings.n=2", "seed=1"]).runs) == 1
    assert {run.settings["lr"] for run in read(text, overrides=["lr=0.5"]).runs.values()} == {0.5}
    assert {run.settings["n"] for run in read(text, overrides=["settings.n=7"]).runs.values()} == {7}
    assert problems(text, where=["modl=a"]) == (
        "--where modl=a: KEY must be `cell`, `seed` or a setting, got 'modl'; did you mean settings.model?",
    )


FREE = HEAD.replace("mine.py", "free.py") + "grid:\n- {settings: {lr: [1, 2], tag: x}, seed: 0}\n"


@pytest.fixture
def _free():
    Path("free.py").write_text("def train(settings, seed, context):\n    return {'error_percent': 1.0}\n")


@pytest.mark.usefixtures("_free")
@pytest.mark.parametrize(
    "override",
    [
        "metric.margin=3",
        "metric={name: x}",
        "trainer.version=3",
        "design.alpha=0.1",
        "execution={threads: 1}",
        "search={}",
        "methods=[a.py]",
        "run={lr: 1}",
        "grid=1",
        "variant=x",
        "data.x=1",
    ],
)
def test_a_part_of_the_file_is_no_setting_of_a_free_trainer(override):
    (line,) = problems(FREE, overrides=[override])
    part = override.partition("=")[0].partition(".")[0]
    assert line.startswith(
        f"--set {override}: '{part}' must be a setting of a run, got a part of the file; change it in"
    )


@pytest.mark.usefixtures("_free")
def test_the_command_line_sets_settings_together_and_those_that_are_called_as_a_part():
    def settings(text, *overrides):
        return [run.settings for run in read(text, overrides=overrides).runs.values()]

    assert settings(FREE, "settings={lr: 30, new: 1}") == [{"tag": "x", "lr": 30, "new": 1}]
    assert settings(FREE, "settings={}") == [{"lr": 1, "tag": "x"}, {"lr": 2, "tag": "x"}]
    assert settings(FREE, "settings.metric.margin=3", "lr=1")[0]["metric.margin"] == 3
    assert settings(FREE.replace("tag: x", "data: {size: 1}"), "data.size=3")[0]["data.size"] == 3
    assert problems(FREE, overrides=["settings=3"])[0].startswith("--set settings=3: settings must be a map, got 3;")
    sweep = read(FREE, overrides=["execution.threads=3"])
    assert (sweep.execution.threads, [*sweep.runs]) == (3, [*read(FREE).runs])


@pytest.mark.usefixtures("_free")
def test_a_number_with_underscores_is_no_text_in_the_place_of_numbers():
    rule = "settings.lr must be a number as in the file, got"
    for override, got in [
        ("lr=1_000", '"1_000"'),
        ("settings={lr: 1_000}", '"1_000"'),
        ("lr=[1, 1_000]", '[1, "1_000"]'),
    ]:
        assert problems(FREE, overrides=[override]) == (f"--set {override}: {rule} {got}; write 1000",)
    for override, value in [("lr='1_000'", "1_000"), ("tag=2024_01", "2024_01"), ("other=1_000", "1_000")]:
        (*_, run) = read(FREE, overrides=[override]).runs.values()
        assert run.settings[override.partition("=")[0]] == value


@pytest.mark.usefixtures("_free")
def test_cells_are_chosen_by_a_setting_that_the_first_block_does_not_have():
    head = HEAD.replace("mine.py", "free.py") + "method: algo\n"
    text = head + "grid:\n- {settings: {algo: a, lr: 0.1}, seed: 0}\n- {settings: {algo: b, depth: [3, 4]}, seed: 0}\n"
    (run,) = read(text, where=["depth=3"]).runs.values()
    assert run.settings == {"algo": "b", "depth": 3}
    (line,) = problems(text, where=["dept=3"])
    assert line.endswith("did you mean settings.depth?")


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        (HEAD + GRID.replace("model", "modl"), 5, "'modl' must be a setting of the trainer; did you mean model?"),
        (HEAD + GRID.replace("[a, b]", "[a, 3]"), 5, "settings.model must be a text, got 3"),
        (HEAD + GRID.replace("{model: [a, b]}", "{n: 1}"), 5, "settings.model must be given"),
        (HEAD + GRID + "run: {settings: {lr: fast}}\n", 7, 'settings.lr must be a number, got "fast"'),
        (HEAD + GRID + "run: {settings: {lr: .nan}}\n", 7, "settings.lr must be a finite number"),
        (HEAD + GRID + "run: {settings: {a.b: 1}}\n", 7, "a setting's name must have no dot"),
        (HEAD + GRID + "run: {method: scratch}\n", 7, "'method' must be one of settings, seed"),
        (HEAD + GRID + "axis: m\n", 7, "axis must name a setting of the grid, got 'm'; "),
        (HEAD + GRID + "method: settings.mdel\n", 7, "method must name a setting of the grid, got 'mdel'"),
        (HEAD + GRID + "method: model\naxis: model\n", 8, "a setting must have one part of method, axis and data"),
        (HEAD + GRID.replace("]}", "], n: [1, 2]}"), 4, "method must say which is compared where several settings"),
        (HEAD + GRID + "methods: [m.py]\n", 7, "methods are of the built-in trainer"),
        (HEAD + GRID + "execution: {pack: 4}\n", 7, "execution.pack must be auto or 1"),
        (HEAD.replace("mine.py", "other.py") + GRID, 2, "must be a file that can be read, from the working folder"),
        (HEAD.replace("mine.py", "mine.py:fit") + GRID, 2, "must have a function fit(settings, seed, context), got"),
        (HEAD.replace("mine.py", "mine.py:trian") + GRID, 2, "functions train, plain, few, odd; did you mean train"),
        (HEAD.replace("mine.py", "mine.py:few") + GRID, 2, "few must take (settings, seed, context), got few("),
        (HEAD.replace("mine.py", "mine.py:odd") + GRID, 2, "must be annotated with a pydantic model, a dataclass"),
        (HEAD.replace("mine.py", "no.module:train") + GRID, 2, "must be a module"),
        (HEAD.replace("mine.py", "{function: mine.py, result: r}") + GRID, 2, "must have `result:` with a command"),
        (HEAD.replace("mine.py", "{}") + GRID, 2, "must have a function or a command"),
        (HEAD.replace("mine.py", "[1]") + GRID, 2, "trainer must be a text or a map"),
        (HEAD.replace("mine.py", "{functin: mine.py}") + GRID, 2, "did you mean function?"),
        (HEAD.replace(", lower_is_better: true", "") + GRID, 3, "metric.lower_is_better must be given"),
        (HEAD.replace("error_percent", "rmse") + GRID, 3, "metric.margin must be given for rmse"),
        (HEAD.replace("error_percent", "wall_s") + GRID, 3, "metric.name must not be wall_s"),
        (HEAD.partition("metric")[0] + GRID, 1, "metric must say which result counts"),
        ("sweep: s\nmetric: {name: a}\ngrid: [{data: {name: digits, samples_per_class: 1}, method: scratch, seed: 0}]",
         2, "metric must stand with `trainer:`"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_at_its_line(text, line, told):
    found = problems(text)
    assert any(problem.startswith(f"s.yaml:{line}: ") and told in problem for problem in found), found


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("import nothing_there", "got ModuleNotFoundError: No module named 'nothing_there' (mine.py:1)"),
        ("def train(:", "got SyntaxError"),
        ("raise SystemExit(3)", "got SystemExit: 3 (mine.py:1)"),
        ("1 / 0", "got ZeroDivisionError: division by zero (mine.py:1)"),
    ],
)
def test_a_file_that_cannot_be_imported_is_told_with_its_line(content, told):
    Path("mine.py").write_text(content)
    (problem,) = problems(HEAD + GRID)
    assert problem.startswith("s.yaml:2: trainer: ")
    assert told in problem


COMMAND = HEAD.replace("mine.py", '{command: "python mine.py {model} --seed {seed}", result: r.json}')


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        (COMMAND.replace("{model}", "{modl}") + GRID, 2, "{modl} in trainer.command must be a setting"),
        (COMMAND.replace("{model}", "") + GRID, 5, "settings.model must stand in trainer.command as {model}"),
        (COMMAND.replace("{seed}", "1") + GRID, 2, "trainer.command must hold {seed}, or all seeds would be one run"),
        (COMMAND.replace("python mine", "pythn mine") + GRID, 2, "must begin with a program that is there, got"),
        (COMMAND.replace("python mine", "A=1 mine") + GRID, 2, "got 'A=1'; write `env A=1`"),
        (COMMAND.replace("python mine", "./mine") + GRID, 2, "got './mine.py'; write e.g. `python ./mine.py`"),
        (COMMAND.replace("{model}", "${model}") + GRID, 2, "name a setting as {model}, got ${model}; remove the $"),
        (COMMAND.replace("r.json", "/tmp/r.json") + GRID, 2, "must be a file in the folder of its run, because runs"),
        (COMMAND.replace("r.json", "../r.json") + GRID, 2, "got '../r.json'; have the command write to e.g. results"),
        (COMMAND.replace("r.json", ".") + GRID, 2, "trainer.result must be a file in the folder of its run"),
        (COMMAND.replace("r.json", '"{modl}.json"') + GRID, 2, "{modl} in trainer.result must be a setting, or seed"),
        (COMMAND.replace("--seed", "'--seed") + GRID, 2, "trainer.command must be words of a shell"),
        (COMMAND + GRID.replace("model:", "device: 1, model:"), 5, "settings.device must have another name"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_told_at_its_line(text, line, told):
    found = problems(text)
    assert any(problem.startswith(f"s.yaml:{line}: ") and told in problem for problem in found), found


def test_a_command_is_known_by_the_files_that_it_names():
    before = read(COMMAND + GRID).runs.keys()
    assert read(COMMAND + GRID).runs.keys() == before
    Path("mine.py").write_text(TRAINER + "# edited\n")
    assert not read(COMMAND + GRID).runs.keys() & before


def test_another_file_of_results_makes_other_runs_and_the_usual_one_keeps_its_keys():
    usual = read(COMMAND.replace("r.json", "results.json") + GRID).runs
    assert not usual.keys() & read(COMMAND + GRID).runs.keys()
    assert {name for run in usual.values() for name in run.trainer} == {"command", "sha256"}


def test_a_command_may_take_several_lines_as_in_a_shell():
    lines = HEAD.replace(
        "mine.py", "\n  command: |\n    python mine.py \\\n      {model} \\\n      --seed {seed}\n  result: r.json"
    )
    (run, *_) = read(lines + GRID).runs.values()
    words = Spec(command=run.trainer["command"], result="r.json").words
    assert words == ["python", "mine.py", "{model}", "--seed", "{seed}"]


def test_a_command_may_have_a_word_that_is_longer_than_a_file_name():
    program = f"import sys; {'x = 1; ' * 100}"
    assert len(read(COMMAND.replace("mine.py", f"-c '{program}'") + GRID).runs) == 6


def test_more_runs_than_memory_holds_are_refused_before_they_are_written_out():
    assert problems(HEAD + GRID.replace("to: 2", "to: 900000000")) == (
        "s.yaml: must have at most 1,000,000 runs, got 1,800,000,002; shorten the longest lists",
    )


def test_a_search_of_settings_is_read_with_its_direction():
    text = HEAD + GRID + "search: {space: {lr: {low: 1, high: 10}}, seeds: [100], trials: 3}\n"
    search = read(text).search
    assert search.modes == ("min",)
    (dimension,) = search.studies[0].space
    assert (dimension.name, dimension.kind) == ("settings.lr", "float")
    run = search.studies[0].trial_run({"settings.lr": 2.5}, 100)
    assert (run.settings["lr"], run.seed) == (2.5, 100)
    other = text.replace("trials: 3", "objective: score, lower_is_better: false, trials: 3")
    assert read(other).search.modes == ("max",)


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ("{space: {lr: {low: 1, high: 10}}, seeds: [1]}", "search.seeds must differ from the grid's"),
        ("{space: {lrr: {low: 1, high: 10}}, seeds: [9]}", "got 'lrr'; did you mean settings.lr?"),
        ("{space: {model: [a, b]}, seeds: [9]}", "settings.model must be one value where a search chooses it"),
        ("{space: {n: {low: 0.5, high: 1.5}}, seeds: [9]}", "settings.n must be a whole number, got 0.5"),
        ("{space: {lr: {low: 1, high: 2}}, seeds: [9], objective: loss}", "search.lower_is_better must be given for"),
        ("{seeds: [9]}", "search.space must be given"),
    ],
)
def test_a_wrong_search_is_told_at_its_line(search, told):
    found = problems(HEAD + GRID + f"search: {search}\n")
    assert any(problem.startswith(("s.yaml:7: ", "s.yaml:5: ")) and told in problem for problem in found), found


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
