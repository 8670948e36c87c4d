"""`--set` and `--where`, and their mistakes."""

import pytest

from tests.support.sweepfiles import DIGITS, changed, grid, problems, read

pytestmark = pytest.mark.usefixtures("sweep_folder")


# overrides and selection


def test_an_override_replaces_the_setting_everywhere():
    text = grid(changed(seed="[0, 1]", training="{epochs: 7, lr: 0.5}"), DIGITS, head="run: {training: {epochs: 9}}")
    sweep = read(text, overrides=["training.epochs=2", "run.seed=[4]", "execution.retries=5", "sweep=t"])
    assert {(run.training.epochs, run.seed) for run in sweep.runs.values()} == {(2, 4)}
    assert [run.training.lr for run in sweep.runs.values()] == [0.5, 0.1]
    assert (sweep.execution.retries, sweep.name) == (5, "t")


def test_a_dotted_name_is_refused_in_a_file_where_an_override_would_not_find_it():
    told = problems(grid(DIGITS, head="run: {training.epochs: 9}"), overrides=["training.epochs=2"])
    (line,) = told
    assert line.startswith("sweep.yaml:2: training.epochs must stand below `training:`")
    assert line.endswith("write `training: {epochs: 9}`")


def test_an_override_may_be_a_section_a_map_or_a_list():
    text = grid(changed(DIGITS, training="{epochs: 7, lr: 0.5}"))
    overrides = ["training={lr: 1e-2, momentum: 0}", "samples_per_class={'*': 3, '0': 2}", "seed={from: 0, to: 4}"]
    sweep = read(text, overrides=overrides)
    (run, *rest) = sweep.runs.values()
    assert (run.training.epochs, run.training.lr, run.training.momentum) == (7, 0.01, 0.0)
    assert (run.data.samples_per_class, len(rest)) == ({"*": 3, "0": 2}, 4)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("training.epochs", "must be dotted.key=VALUE"),
        ("training.epoch=1", "did you mean epochs?"),
        ("training.epochs=0", "training.epochs must be >= 1, got 0"),
        ("execution.pak=1", "did you mean pack?"),
        ("width=1", "'width' must be a setting of a run"),
        ("seed=[", "must be YAML"),
        ("=", "must be a setting of a run"),
    ],
)
def test_a_mistake_in_an_override_is_told_with_the_argument(override, told):
    (line,) = problems(grid(DIGITS), overrides=[override])
    assert line.startswith(f"--set {override}: ")
    assert told in line


@pytest.mark.parametrize(
    ("where", "count"),
    [
        (["method=scratch"], 2 * 2 * 2),
        (["method=scratch", "method=ufm"], 2 * 2 * 2 * 2),
        (["data.name=digits", "samples_per_class=4"], 2 * 2),
        (["seed=1"], 2 * 2 * 2),
        (["cell=digits/4/ufm"], 2),
        (["cell=digits/*"], 8),
        (["transfer.beta=0.5", "seed=0"], 8),
    ],
)
def test_where_keeps_what_matches(where, count):
    text = grid(changed(name="[digits, stl10]", samples_per_class="[4, 5]", method="[scratch, ufm]", seed="[0, 1]"))
    everything = read(text)
    chosen = read(text, where=where)
    assert len(everything.runs) == 16
    assert len(chosen.runs) == count
    assert chosen.runs.items() <= everything.runs.items()
    assert chosen.cells.items() <= everything.cells.items()


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("metod=ufm", "did you mean method?"),
        ("width=1", "write source.width or target.width"),
        ("method=unf", "got none; method is one of scratch, ufm"),
        ("seed=9", "got none; seed is one of 0"),
        ("seed=true", "got none; seed is one of 0"),
        ("cell=x", "got none; cell is one of digits/5/scratch, digits/5/ufm"),
        ("method", "must be KEY=VALUE"),
        ("data=digits", "write data.name or data.path or"),
    ],
)
def test_a_mistake_in_where_is_told_with_the_argument(where, told):
    (line,) = problems(grid(changed(method="[scratch, ufm]")), where=[where])
    assert line.startswith(f"--where {where}: ")
    assert told in line
