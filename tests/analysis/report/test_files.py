"""The folder of a report: which files in it are the report's own, and the command that names it."""

import hashlib
import html
from pathlib import Path

from analysis.report.evidence import gather
from analysis.report.page import write_report
from analysis.stats import main
from tests.support.ledgers import Logged, fill


def test_a_report_into_the_folder_of_another_leaves_none_of_its_files_and_all_of_others(database, capsys):
    runs = [Logged(data=data, method=m, seed=i, accuracy=50.0 + i)
            for data in ("cifar10", "stl10") for m in ("l2t_ww", "l2t_www") for i in range(6)]  # fmt: skip
    fill(database, "large", runs, wanted=[Logged(seed=99)])
    fill(database, "small", [Logged(method="ufm", seed=i, accuracy=40.0 + i) for i in range(3)])
    assert main(["large", "--out", "report"]) == 1
    before = {path for path in Path("report").rglob("*") if path.is_file()}
    assert {Path("report/tables/missing.txt"), Path("report/figures/seeds_stl10.svg")} < before
    mine = [Path("report/notes.txt"), Path("report/tables/missing.of_mine.txt"), Path("report/figures/accuracy_my.svg")]
    for path in mine:
        path.write_text("mine")
    changed = Path("report/tables/tests.md")
    changed.write_text(changed.read_text() + "a remark")
    capsys.readouterr()

    assert main(["small", "--out", "report"]) == 0
    left = {path for path in Path("report").rglob("*") if path.is_file()}
    main(["small", "--out", "fresh"])
    fresh = {Path("report", path.relative_to("fresh")) for path in Path("fresh").rglob("*") if path.is_file()}
    assert left == fresh | {*mine, changed}
    assert "figure: report/figures/accuracy_cifar10.svg\n" in capsys.readouterr().out
    listed = Path("report/files.sha256").read_text().splitlines()
    assert {Path("report", line[66:]) for line in listed} == fresh - {Path("report/files.sha256")}


def test_a_list_that_names_files_elsewhere_or_is_none_removes_nothing(database):
    fill(database, "s", [Logged()])
    outside = Path("outside.txt")
    outside.write_text("")
    Path("report").mkdir()
    digest = hashlib.sha256(b"").hexdigest()
    Path("report/files.sha256").write_text(f"{digest}  ../outside.txt\n{digest}  {outside.resolve()}\nnonsense\n")
    write_report(gather(), Path("report"))
    assert outside.exists()
    Path("report/files.sha256").write_bytes(b"\xff")
    write_report(gather(), Path("report"))


def test_the_command_for_this_report_names_the_folder_that_was_given(database):
    fill(database, "s", [Logged()])
    main(["--out", "papers/my report"])
    page = html.unescape(Path("papers/my report/index.html").read_text())
    assert "python -m analysis.stats s --out 'papers/my report'" in page


def test_a_report_folder_that_is_a_file_is_refused(database, capsys):
    fill(database, "s", [Logged()])
    Path("report").write_text("mine")
    assert main(["--out", "report"]) == 2
    assert "report: --out must be a folder that can be written to" in capsys.readouterr().err
    assert Path("report").read_text() == "mine"
