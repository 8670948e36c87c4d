"""A command as trainer: what it names, and every mistake at its line."""

from pathlib import Path

import pytest

from l2t_ray.trainer.spec import Spec
from tests.support.own_sweeps import GRID, HEAD, TRAINER, problems, read


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(TRAINER)


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
