"""What a report says of a declared design: levels, what it spared, its looks."""

from pathlib import Path

import pytest
from ledgers import Logged, fill

from analysis.evidence import gather
from analysis.report import write_report
from analysis.stats import main

DESIGN = {"looks": [10, 20, 30], "alpha": 0.05, "futility": 0.1, "compare": ["l2t_www", "l2t_ww"]}


def designed(shift, n, samples):
    """The first n of 30 seeds of two methods, and the rest."""
    runs = [
        Logged(method=m, samples=samples, seed=i, accuracy=50 + i * 7 % 30 / 10 + shift * (m == "l2t_www"))
        for m in ("l2t_ww", "l2t_www")
        for i in range(30)
    ]
    return [run for run in runs if run.seed < n], [run for run in runs if run.seed >= n]


def test_a_declared_design_is_stated_with_its_levels_and_what_it_spared(database):
    parts = [designed(5, 10, "10"), designed(0.0, 20, "30"), designed(0.9, 10, "50")]
    fill(database, "s", [run for done, _ in parts for run in done], wanted=[run for _, rest in parts for run in rest],
         further={"design": DESIGN})  # fmt: skip
    evidence = gather()
    state = {item.condition.samples_per_class: item.decision.state for item in evidence.comparisons}
    assert state == {"10": "significant", "30": "futile", "50": "continue"}
    assert {gap.wanted.samples_per_class for gap in evidence.gaps} == {"50"}  # the others are not needed
    assert sum(len(item.seeds) for item in evidence.spared) == 40 + 20
    page = write_report(evidence, Path("report")).read_text()
    for words in (
        "looks after 10 seeds: p ≤ 0.0002, 20 seeds: p ≤ 0.0120, 30 seeds: p ≤ 0.0463",
        "significant at look 1 of the declared design",
        "against the look&#39;s level 0.0002",
        "20 runs of L2T-www on cifar10/10 were not needed.",
        "by the declared group-sequential design at its adjusted levels",
    ):
        assert words in page, words


def test_the_family_of_a_design_is_corrected_with_the_p_adjusted_for_its_looks(database):
    parts = [designed(5, 10, "10"), designed(0.9, 20, "50")]
    fill(database, "s", [run for done, _ in parts for run in done], wanted=[run for _, rest in parts for run in rest],
         further={"design": DESIGN})  # fmt: skip
    first, second = gather().comparisons
    assert (first.decision.look, second.decision.look) == (1, 2)
    assert all(item.p == item.decision.p_adjusted > item.decision.p for item in (first, second))
    assert [first.p_holm, second.p_holm] == pytest.approx([2 * first.p, max(2 * first.p, second.p)])
    pairs = [item for item in gather().all_pairs if item.condition.samples_per_class == "10"]
    assert [item.p for item in pairs] == [first.p]


def test_a_cell_that_a_design_has_decided_is_complete(database):
    done, rest = designed(5, 10, "10")
    fill(database, "s", done, wanted=rest, further={"design": DESIGN})
    cell = gather().cells[0]
    assert (cell.mean.n, cell.n_wanted, cell.gaps) == (10, 10, ())
    assert main([]) == 0
    ufm = [Logged(method="ufm", samples="10", seed=seed, accuracy=40.0 + seed) for seed in range(30)]
    fill(database, "s", ufm, wanted=[*done, *rest], further={"design": DESIGN})
    assert main(["--compare", "l2t_www", "ufm"]) == 0  # the design has spared them whatever is asked


def test_a_design_holds_for_runs_that_another_sweep_wants_too(database, capsys):
    done, rest = designed(5, 10, "10")
    fill(database, "pilot", done[:3], wanted=[run for run in done if run.seed < 5])  # older, and without a design
    fill(database, "s", done[3:], wanted=[*done[:3], *rest], further={"design": DESIGN})
    evidence = gather()
    assert evidence.comparisons[0].decision.state == "significant"
    assert evidence.gaps == ()
    assert "pilot and s share 10 runs, counted once and under pilot" in evidence.results.notices
    fill(database, "whole", [], wanted=[*done, *rest])  # wants what the design has spared
    assert len(gather().gaps) == 40
    assert len(gather(["s"]).gaps) == 0


def test_before_the_first_look_nothing_is_claimed(database):
    done, rest = designed(5, 9, "10")
    fill(database, "s", done, wanted=rest, further={"design": DESIGN})
    page = write_report(gather(), Path("report")).read_text()
    assert "no look of the declared design has been reached, so there is no test yet" in page


def test_a_manifest_with_an_impossible_design_is_refused(database, capsys):
    fill(database, "s", [Logged()], further={"design": {**DESIGN, "looks": [30, 10]}})
    assert main([]) == 2
    assert "s: the manifest's design is impossible: looks must be rising" in capsys.readouterr().err
