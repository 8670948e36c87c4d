"""What a plan and other tables look like on a terminal, and that a file gets them as before."""

import io
import re

import pytest

from l2t_ray.launch.placement.plan import CellPlan, LanePlan, Plan
from l2t_ray.launch.power import Detectable
from l2t_ray.launch.summary import print_plan, print_rows, print_summary, summarize
from l2t_ray.ledger.entries import Entry
from l2t_ray.run import Metric
from l2t_ray.trainer.run import OwnRun

CELLS = ("cifar10/10/scratch", "cifar10/10/attention_transfer/resnet32", "cifar10/10/intermediate_finetune/resnet32")
LANE = LanePlan("NVIDIA H100 80GB HBM3", 13.0, "estimate", 4 << 30, 4, 1)
SHARE = "8 at once, a whole NVIDIA H100 80GB HBM3 each, packs of 4, beside others"
PLAN = Plan("8 x NVIDIA H100 80GB HBM3", tuple(CellPlan(cell, 10, 0, 10, (LANE,)) for cell in CELLS), {SHARE: 30}, 30,
            0.0, None, None, None, {})  # fmt: skip
POWER = Detectable(10, 158, 0.00032, 0.97, 2.64, None, None)
ROWS = (("digits_imbalanced", "sweeps/digits_imbalanced.yaml"), ("gamma", "sweeps/gamma.yaml"))


class Terminal(io.StringIO):
    """A terminal in memory."""

    def isatty(self):
        return True


@pytest.fixture
def on_terminal(monkeypatch):
    """Returns a function: the lines of what is printed on a terminal of so many columns, without colours."""
    monkeypatch.setenv("TERM", "xterm")

    def lines(columns, show, *arguments, **more):
        monkeypatch.setenv("COLUMNS", str(columns))
        show(*arguments, stream := Terminal(), **more)
        return re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue()).splitlines()

    return lines


def test_a_plan_fits_a_terminal_of_80_columns_and_breaks_no_word(on_terminal):
    lines = on_terminal(80, print_plan, PLAN, POWER)
    assert max(map(len, lines)) <= 80
    head, table, prose = lines[:3], lines[4:-6], " ".join(lines[-6:])
    assert [line.split()[-1] for line in head] == ["a", "a", "device"]
    assert "".join(line.split(" ")[0] for line in table) == "".join(CELLS)
    assert all(re.search(r"[/_]$|^cifar10/10/scratch$|resnet32$", line.split(" ")[0]) for line in table)
    assert f"placement of 30 runs: {SHARE} time: unknown, the duration of 30 runs was never" in prose
    assert prose.endswith("80 % for differences from A12 = 0.97, 2.64 standard deviations of a run")


def test_a_plan_in_a_file_has_a_line_for_each_thing():
    print_plan(PLAN, POWER, stream := io.StringIO())
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines[3:6]] == [*CELLS]
    assert lines[-1].startswith("power: ")
    assert len(lines[-1]) > 100


def test_file_names_break_after_their_marks(on_terminal):
    lines = on_terminal(40, lambda stream: print_rows(("sweep", "file"), ROWS, stream, left=("sweep", "file")))
    assert [line.rstrip() for line in lines[2:]] == [
        "digits_imbalanced sweeps/digits_",
        "                  imbalanced.yaml",
        "gamma             sweeps/gamma.yaml",
    ]


def test_a_terminal_too_narrow_for_any_break_loses_nothing(on_terminal):
    lines = on_terminal(10, lambda stream: print_rows(("sweep", "file"), ROWS, stream, left=("sweep", "file")))
    assert "imbalanced.yaml" in "\n".join(lines)


def test_finished_runs_without_the_metric_that_counts_are_told():
    runs = {str(seed): OwnRun(trainer={}, settings={}, seed=seed) for seed in range(2)}
    entries = [Entry(key, "own", "FINISHED", 0, {"kind": "run", "key": key}, {"rmse": 1.0}) for key in runs]
    told = []
    for name in ("rmse", "mae"):
        metric = Metric(name=name, lower_is_better=True, margin=0.1)
        print_summary(summarize("own", runs, dict.fromkeys(runs, "a/-/b"), entries, metric), stream := io.StringIO())
        told.append(stream.getvalue())
    rule = "metric.name must be a result of every run, got 'mae', which 2 of 2 finished runs lack; correct it, or train"
    assert [rule in text for text in told] == [False, True]
