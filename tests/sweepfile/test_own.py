"""A sweep file of a trainer of one's own: cells, keys, and every mistake at its line."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from l2t_ray.ledger.manifest import manifest
from l2t_ray.sweepfile.own_names import Factors
from tests.support.own_sweeps import GRID, HEAD, TRAINER, cells, problems, read


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(TRAINER)


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
