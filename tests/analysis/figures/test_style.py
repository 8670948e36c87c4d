"""The look of methods (each has a colour, marker and line, the same in every figure), and names of files."""

import os
import re
import subprocess
import sys
import warnings
from itertools import combinations, pairwise

import pandas as pd
import pytest

from analysis.figures.accuracy import draw_accuracy, draw_seeds
from analysis.figures.difference import draw_p
from analysis.figures.style import LOOKS, MOST_POINTS, STROKES, file_name, looks, thinned
from analysis.report.evidence import gather
from analysis.report.sections import draw_all
from l2t_ray import registry
from tests.support.ledgers import Logged, fill
from tests.support.places import ROOT

OWN = [f"l2t_www/beta={beta}" for beta in (0.1, 0.5, 1, 2)] + ["mine", "yours", "theirs"]


def test_every_built_in_method_has_a_look_of_its_own():
    registry.load()
    built_in = {name for name, method in registry.METHODS.items() if type(method).__module__.startswith("l2t_ray.")}
    assert len(built_in) >= 11
    assert built_in - LOOKS.keys() <= {"no_transfer", "other"}  # which other tests register
    for one, other in combinations(LOOKS.values(), 2):
        assert (one.color, one.marker) != (other.color, other.marker)
        assert one.marker != other.marker
    assert len({look.color for look in LOOKS.values()}) == len(LOOKS)


def test_a_look_does_not_depend_on_what_else_is_drawn():
    together = looks([*LOOKS, *OWN])
    assert {name: look for name, look in together.items() if name in LOOKS} == LOOKS
    for name in OWN:
        assert looks([name])[name] == together[name] == looks(["spottune", *reversed(OWN)])[name]
    assert [*looks(["ufm", "mine", "scratch"])] == ["ufm", "mine", "scratch"]


@pytest.mark.parametrize("n", [7, len(STROKES)])
def test_methods_of_ones_own_are_told_apart_by_colour_and_line_as_long_as_those_last(n):
    found = looks([f"method{i}" for i in range(n)]).values()
    assert len({(look.color, look.line) for look in found}) == n
    assert not {(look.color, look.line) for look in found} & {(look.color, look.line) for look in LOOKS.values()}
    assert not {look.marker for look in found} & {look.marker for look in LOOKS.values()}


def test_more_methods_than_looks_are_drawn_all_the_same():
    assert len(looks([f"method{i}" for i in range(len(STROKES) + 5)])) == len(STROKES) + 5


def test_p_with_a_single_number_of_seeds_has_a_whole_tick(database):
    runs = [Logged(method=m, seed=i, accuracy=50 + i) for m in ("ufm", "scratch") for i in range(5)]
    fill(database, "s", runs, further={"design": {"looks": [5], "compare": ["ufm", "scratch"]}})
    words = re.findall(r"<!-- (.*?) -->", draw_p(gather().comparisons, None).svg)
    assert "5" in words
    assert not [word for word in words if re.fullmatch(r"[45]\.\d+", word)]


@pytest.mark.parametrize("n", [0, 1, 2, 99, 100, 101, 150, 199, 200, 201, 1001])
def test_a_thinned_line_keeps_its_first_and_last_point(n):
    kept = thinned(pd.DataFrame({"epoch": range(n)}))["epoch"].tolist()
    assert len(kept) == min(n, MOST_POINTS)
    assert (kept[:1], kept[-1:]) == ([0][:n], [n - 1][:n])
    steps = {after - before for before, after in pairwise(kept)}
    assert not steps or max(steps) - min(steps) <= 1


def test_two_names_are_never_one_file():
    names = ["a b", "a,b", "a/b", "a-b", "../a", ".."]
    files = [file_name("lambda", "", name) for name in names]
    assert len({*files}) == len(names)
    assert all(re.fullmatch(r"lambda_[\w.-]+", name) for name in files)
    assert file_name("lambda", "stl10", "a-b") == "lambda_stl10_a-b"  # no hash, as nothing was replaced


@pytest.mark.parametrize(
    "backend", ["module://matplotlib_inline.backend_inline", "module://nothing.here", "TkAgg", "x"]
)
def test_a_figure_needs_neither_a_backend_nor_a_home_folder(backend):
    code = "import io, os; from analysis.figures.style import drawing\n"
    code += "with drawing() as (figure, axes):\n    figure.savefig(io.BytesIO(), format='svg')\n"
    code += "print(os.environ['MPLBACKEND'])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MPL"))}
    environment |= {"PYTHONPATH": str(ROOT), "MPLBACKEND": backend, "HOME": "/proc/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{backend}\n", "")


def test_a_dollar_in_a_name_is_no_formula(database):
    """Two dollars in a name were read as one: the figure was missing, or lost them."""
    runs = [Logged(data=data, method=method, seed=seed, accuracy=50.0 + seed)
            for data in (r"e$\frac$", "a$b$") for method in ("scratch", "$x_{$") for seed in range(6)]  # fmt: skip
    fill(database, "s", runs)
    figures = draw_all(gather(), database.parent / "figures")
    assert [figure.caption for group in figures.values() for figure in group if not figure.svg] == []
    bands = {figure.svg for figure in figures["accuracy"]}
    assert [any(f"<!-- {name} -->" in svg for svg in bands) for name in (r"e$\frac$", "a$b$", "$x_{$")] == [True] * 3


def test_ticks_of_a_logarithmic_axis_stay_formulas(database):
    runs = [Logged(method=method, seed=seed, accuracy=50.0 + seed + 20 * (method == "ufm"))
            for method in ("scratch", "ufm") for seed in range(10)]  # fmt: skip
    fill(database, "s", runs, further={"design": {"looks": [10], "compare": ["ufm", "scratch"]}})
    assert r"<!-- $\mathdefault{10^{-2}}$ -->" in draw_p(gather().comparisons, None).svg


def test_every_one_of_forty_methods_is_drawn_and_named(database):
    """Beyond 25 methods bars lay outside the axes, and beyond 20 the legend left nothing of them."""
    runs = [Logged(method=f"m{place:02}", seed=seed, accuracy=50.0 + seed) for place in range(40) for seed in range(3)]
    fill(database, "s", runs)
    with warnings.catch_warnings(action="error"):
        for draw in (draw_accuracy, draw_seeds):
            (figure,) = draw(gather().cells, None)
            assert all(f"<!-- m{place:02} -->" in figure.svg for place in range(40))
