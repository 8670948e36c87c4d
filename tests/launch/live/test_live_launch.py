"""A real launch on a terminal, with its page; and a look at both while it trains."""

import os
import re
import sys

import psutil

from l2t_ray import sweep
from l2t_ray.launch.live.view import View
from tests.support.launches import OF_RAY, call, is_over
from tests.support.marks import LONG
from tests.support.places import ROOT
from tests.support.terminal import Terminal, screen
from tests.support.waiting import MOST_S, wait_for

pytestmark = [*OF_RAY, LONG]

FILE = """
sweep: tiny
trainer: slowly.py
metric: {name: error_percent, lower_is_better: true}
run: {settings: {epochs: 300, method: scratch, n: 2}}
method: settings.method
axis: settings.n
data: []
grid:
- {seed: {from: 0, to: 3}}
- {variant: late, settings: {lr: 0.01}, seed: {from: 0, to: 3}}
"""
TRAINER = """
import time

def train(settings, seed, context):
    for epoch in range(1, 301):
        time.sleep(0.1)
        context.log(epoch)
    return {"error_percent": 1.0}
"""


def test_a_launch_on_a_terminal_shows_its_cells_and_gives_the_terminal_back(folder):
    (folder / "tiny.yaml").write_text(FILE)
    (folder / "slowly.py").write_text(TRAINER)
    words = ["-m", "l2t_ray.sweep", "tiny.yaml", "--no-probe", "--page"]
    own = {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "OMP_NUM_THREADS": "1", "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    terminal = Terminal([sys.executable, *words], 80, 24, cwd=folder, env=os.environ | own)
    try:
        told = lambda: terminal.screen  # noqa: E731
        wait_for(lambda: " left (" in terminal.screen, process=terminal.process, told=told)
        assert re.search(r"tiny: \d of 8 runs ended.*\n\d running, .* left \(.* to .*\), after \d", terminal.screen)
        assert re.search(r"slowly/2/scratch +\d/4 +\d", terminal.screen)
        assert re.search(r"cpu: \d+ % busy, [\d.]+ of [\d.]+ GiB", terminal.screen)
        assert re.search(
            r"cpu: slowly/2/scratch.*, 1 run, (no epoch reported yet|epoch \d+ of 300), .* so far, .* left",
            terminal.screen,
        )
        page = (folder / ".l2t/tiny/live.html").read_text()
        assert '<meta http-equiv="refresh" content="5">' in page
        assert "slowly/2/scratch" in page

        def seen():
            found = View.read(folder / ".l2t/tiny/progress.json")
            return found if found and any(pack.epoch for pack in found.packs) else None

        view = wait_for(seen, process=terminal.process, told=told)
        assert {pack.cell.split("/")[2] for pack in view.packs} == {"scratch"}
        code, out, err = call(sweep.main, "tiny.yaml", "--status")
        assert code == 0
        assert f"tiny: launched by pid {terminal.process.pid}" in err
        assert re.search(r"slowly/2/scratch +\d/4 +\d", out)
        assert "epoch" in out

        family = psutil.Process(terminal.process.pid).children(recursive=True)
        terminal.type("\x03")
        assert terminal.wait(MOST_S) == 1
        lines, cursor = screen(terminal.text, terminal.columns)
        assert cursor
        assert re.search(r"interrupted with \d runs to go; launch again to go on", "\n".join(lines))
        assert "so far" not in "\n".join(lines)  # the table is gone
        page = (folder / ".l2t/tiny/live.html").read_text()
        assert "and ended at" in page
        assert "refresh" not in page
        wait_for(lambda: all(is_over(one) for one in family))
    finally:
        terminal.end()
