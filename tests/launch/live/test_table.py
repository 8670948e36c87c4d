"""The table: 80 columns, ASCII, few lines; on a terminal, a small one, and off one."""

import contextlib
import io
import re

import pytest
from rich.console import Console

from l2t_ray.launch.live.screen import Screen
from l2t_ray.launch.live.table import folded, print_view, table
from l2t_ray.launch.live.view import CellView, DeviceView, PackView, View
from l2t_ray.launch.placement.eta import Eta
from tests.support.terminal import screen

CELLS = (
    CellView("digits/1/scratch", 8, 0, 0, 0),
    CellView("digits/1/ufm", 8, 1, 1, 0, 61.5),
    CellView("digits/2/ufm", 8, 6, 1, 1, 78.25, 1.503),
    CellView("digits/2/l2t_www", 8, 8, 0, 0, 80.0, 0.75),
)
VIEW = View(
    sweep="quickstart",
    begun_s=1_000.0,
    updated_s=1_042.0,
    ended_s=None,
    counts={"finished": 15, "diverged": 1, "failed": 0},
    n_total=32,
    n_further=0,
    n_running=2,
    eta=Eta(61.0, 45.0, 83.0),
    cells=CELLS,
    devices=(DeviceView("gpu 0", 97.0, 3 * 2**30, 141 * 2**30), DeviceView("cpu", 12.4, 2**30, 0)),
    packs=(
        PackView("digits/1/ufm", 4, "NVIDIA H200", 20.0, 12, 60, 41.0),
        PackView("digits/2/ufm", 1, "NVIDIA H200", 1.0, 0, 0, None),
    ),
    links={"pages": "l2t ui quickstart", "result": "l2t report quickstart"},
)
GOLDEN = """\
quickstart: 16 of 32 runs ended (15 finished, 1 diverged)
2 running, 61 s left (45 to 83 s), after 42 s
cell               finished   running   failed   mean %   +/- (95 %)
────────────────────────────────────────────────────────────────────
digits/1/scratch        0/8
digits/1/ufm            1/8         1             61.50
digits/2/ufm            6/8         1        1    78.25         1.50
digits/2/l2t_www        8/8                       80.00         0.75

gpu 0: 97 % busy, 3.0 of 141.0 GiB
cpu: 12 % busy, 1.0 GiB
NVIDIA H200: digits/1/ufm, pack of 4 runs, epoch 12 of 60, 20 s so far, 41 s lef
NVIDIA H200: digits/2/ufm, 1 run, no epoch reported yet, 1 s so far
pages: l2t ui quickstart    result: l2t report quickstart
"""
ASCII = """\
cell             | finished | running | failed | mean % | +/- (95 %)
-----------------+----------+---------+--------+--------+-----------
digits/1/scratch |      0/8 |         |        |        |
digits/1/ufm     |      1/8 |       1 |        |  61.50 |
"""


def shown(view, width, height=None, encoding="utf-8"):
    buffer = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=buffer, width=width).print(table(view, width, height))
    buffer.seek(0)
    return "".join(f"{line.rstrip()}\n" for line in buffer)


def test_the_table_at_80_columns():
    assert shown(VIEW, 80) == GOLDEN


def test_the_table_of_a_terminal_that_knows_ascii_alone():
    assert ASCII in shown(VIEW, 80, encoding="ascii")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [70, 80, 200])
def test_a_long_name_takes_no_room_from_the_numbers(width, encoding):
    cells = (*CELLS, CellView("animals/10/" + "l" * 200, 8, 1, 1, 1, 50.0, 2.0))
    text = shown(View(**{**vars(VIEW), "cells": cells}), width, encoding=encoding)
    assert "+/- (95 %)" in text
    assert re.search(r"animals/10/l+[ |]+1/8[ |]+1[ |]+1[ |]+50.00[ |]+2.00\n", text)


def test_off_a_terminal_the_table_is_printed_whole():
    stream = io.StringIO()
    print_view(VIEW, stream)
    assert "41 s left" in stream.getvalue()


@pytest.mark.parametrize("height", [13, 14, 20, 24, 40])
def test_a_table_of_many_cells_fits_its_lines_and_shows_where_work_is(height):
    cells = [CellView(f"cell {n}", 10, 4, 0, 0) for n in range(40)]
    cells[33] = CellView("works", 10, 4, 1, 0)
    text = shown(View(**{**vars(VIEW), "cells": tuple(cells)}), 80, height)
    assert len(text.splitlines()) <= height
    assert "works" in text
    assert "runs finished" in text


def test_others_are_counted_in_one_line():
    cells = [
        CellView("a", 10, 1, 0, 0),
        CellView("b", 10, 2, 0, 3),
        CellView("c", 10, 4, 1, 0),
        CellView("d", 9, 0, 0, 0),
    ]
    rows, rest = folded(cells, 3)
    assert ([row.cell for row in rows], rest) == (["b", "c"], "and 2 more cells: 1 of 19 runs finished")
    assert folded(cells, 4) == (cells, "")
    assert folded(cells, 1) == ([], "and 4 more cells: 7 of 39 runs finished")


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def tty(monkeypatch):
    """A terminal of a size."""

    def make(columns, lines, kind="xterm"):
        monkeypatch.setenv("TERM", kind)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", str(lines))
        monkeypatch.delenv("NO_COLOR", raising=False)
        return Tty()

    return make


def seen(stream, columns):
    lines, cursor = screen(stream.getvalue(), columns)
    return "\n".join(lines), cursor


def test_a_terminal_is_drawn_anew_and_given_back(tty):
    stream, now_s = tty(80, 24), [0.0]
    with Screen(stream, lambda: now_s[0]) as found:
        found.show(VIEW)
        first, cursor = seen(stream, 80)
        assert first.strip() == GOLDEN.strip()
        assert not cursor
        found.print("run 1 failed: boom")
        now_s[0] += 0.1
        assert not found.is_due
        now_s[0] += 1
        found.show(View(**{**vars(VIEW), "n_running": 1}))
        second, _ = seen(stream, 80)
        assert second.strip() == "run 1 failed: boom\n" + GOLDEN.replace("\n2 running", "\n1 running").strip()
    left, cursor = seen(stream, 80)
    assert (left.strip(), cursor) == ("run 1 failed: boom", True)


@pytest.mark.parametrize(("columns", "lines"), [(60, 24), (80, 10)], ids=["narrow", "low"])
def test_a_small_terminal_has_one_line(tty, columns, lines):
    stream = tty(columns, lines)
    with Screen(stream, lambda: 0.0) as found:
        found.show(VIEW)
        assert seen(stream, columns)[0] == VIEW.line[:columns].rstrip()


def test_a_terminal_that_cannot_be_drawn_anew_has_lines(tty):
    stream, now_s = tty(80, 24, "dumb"), [0.0]
    with Screen(stream, lambda: now_s[0]) as found:
        for now_s[0] in range(61):
            found.show(VIEW)
    assert stream.getvalue() == 2 * f"{VIEW.line}\n"


def test_an_error_gives_the_terminal_back(tty):
    stream = tty(80, 24)
    with contextlib.suppress(KeyboardInterrupt), Screen(stream, lambda: 0.0) as found:
        found.show(VIEW)
        raise KeyboardInterrupt
    left, cursor = seen(stream, 80)
    assert (left.strip(), cursor) == ("", True)
