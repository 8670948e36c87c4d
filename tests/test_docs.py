"""The documentation: its code runs, its commands exist, and its site has no warning and needs no network."""

import argparse
import itertools
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from l2t_ray.models import build, source_state
from l2t_ray.sweepfile.read import read_sweep
from l2t_ray.sweepfile.source_file import read_pretraining
from tests.support import pages
from tests.support.ledgers import Logged, fill
from tests.support.marks import LONG
from tests.support.places import ROOT

BLOCKS = [block for page in pages.PAGES for block in pages.blocks(page)]
RUN = [block for block in BLOCKS if block.language in pages.RUN and not block.reason]
SLOW = {ROOT / "docs" / name for name in ("tutorial.md", "howto/resume.md", "howto/watch.md")}  # they train with Ray
OF_FILE = {"design", "search", "execution", "methods"}  # keys of a sweep file beside `run:` and `grid:`
COMMAND = re.compile(r"python -m ((?:l2t_ray|analysis|benchmarks|tests)[\w.]*)([^|&;>'#\n]*)")
PLAN = "grid: [{data: {name: digits, samples_per_class: 5}, method: [l2t_ww, l2t_www], seed: {from: 0, to: 29}}]"


def slow_or_not(page):
    marks = [pytest.mark.slow, LONG] if page in SLOW else [LONG]
    return pytest.param(page, id=str(page.relative_to(ROOT)), marks=marks)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder: the shipped sweep files, source networks that know nothing, photos, a ledger with some runs."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "sweeps", "sweeps")
    Path("weights").mkdir()
    for name, arch, width, classes in (("quickstart_digits", "resnet20", 0.5, 10), ("mine", "resnet32", 1.0, 10)):
        torch.save(source_state(build(arch, width, classes)), f"weights/{name}.pt")
    shutil.copy("weights/mine.pt", "weights/resnet32-tinyimagenet.pt")
    for part, label, number in itertools.product(("train", "test"), ("a", "b"), range(10)):
        image = Path("photos", part, label, f"{number}.png")
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number, number, number)).save(image)
    with closing(sqlite3.connect("mlflow.db")) as connection:
        connection.executescript((ROOT / "tests" / "fixtures" / "ledger_schema.sql").read_text())
    runs = [
        Logged(method=method, seed=seed, accuracy=50.0 + seed + gain)
        for gain, method in enumerate(("scratch", "ufm", "l2t_ww", "l2t_www"))
        for seed in range(6)
    ]
    fill(tmp_path / "mlflow.db", "quickstart", runs)
    return tmp_path


@pytest.mark.parametrize("page", [slow_or_not(page) for page in sorted({block.page for block in RUN})])
def test_the_code_of_a_page_runs(page, folder):
    if page in SLOW:
        (folder / "mlflow.db").unlink()
        shutil.rmtree(folder / "weights")
    for block in (block for block in RUN if block.page == page):
        if block.language == "yaml":
            read(block, folder)
        else:
            pages.run(block, folder)


def read(block, folder):
    """A sweep file or a source network's file is read as it stands, a part of one within a small sweep."""
    if block.file:
        pages.run(block, folder)
    content, file = yaml.safe_load(block.text), folder / (block.file or "page.yaml")
    if "out" in content:
        file.write_text(block.text)
        assert read_pretraining(file).out == content["out"]
        return
    if "sweep" in content:
        text = block.text
    elif content.keys() <= OF_FILE:
        text = f"sweep: page\nrun: {{source: {{weights: weights/mine.pt}}}}\n{PLAN}\n{block.text}"
    else:
        inner = "".join(f"  {line}\n" for line in block.text.splitlines())
        text = f"sweep: page\nrun:\n  source: {{weights: weights/mine.pt}}\n{inner}{PLAN}\n"
    file.write_text(text)
    assert read_sweep(file).runs, block.place


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_what_it_is(page):
    for block in (block for block in BLOCKS if block.page == page):
        assert block.language in pages.RUN | pages.SHOWN, f"{block.place}: {block.language}"
        is_synopsis = "[" in block.text.partition("\n")[0]
        is_command = block.text.startswith(("python -m", "make ", "$ ")) and not is_synopsis
        assert block.language in pages.RUN or not is_command, block.place
    assert not re.findall(r"\n\n    (?:python|make|ray|git|pip|\$) .*", page.read_text()), "a command outside a fence"


def help_of(configure):
    parser = argparse.ArgumentParser()
    configure(parser)
    return parser.format_help()


def test_every_command_of_the_pages_exists_with_its_flags():
    told = [page for page in pages.PAGES if page.name != "CHANGELOG.md"]  # it names what is gone, too
    lines = (page.read_text().replace("\\\n", " ") for page in told)  # a command may go on over several
    commands = {found.groups() for text in lines for found in COMMAND.finditer(text)}
    assert len(commands) > 30
    for module, text in commands:
        if module == "l2t_ray" or module.endswith("."):
            continue
        assert find_spec(module), module
        arguments = shlex.split(text.partition("`")[0].replace("[", "").replace("]", ""))
        is_ours = module.startswith(("l2t_ray", "analysis"))
        configure = getattr(import_module(module), "configure", None) if is_ours else None
        known = help_of(configure) if configure else Path(find_spec(module).origin).read_text()
        for flag in (argument.partition("=")[0] for argument in arguments if argument.startswith("--")):
            assert flag in known, f"python -m {module} has no {flag}"
        for file in (argument for argument in arguments if re.fullmatch(r"sweeps/[\w]+\.yaml", argument)):
            is_made = file.endswith("_best.yaml") or file.startswith("sweeps/my_")
            assert is_made or (ROOT / file).is_file(), file


def test_every_target_of_make_that_the_pages_name_exists():
    targets = {*re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)}
    for block in BLOCKS:
        if block.language in {"bash", "console"}:
            named = re.findall(r"^(?:\$ )?make ([a-z-]+)", block.text, re.MULTILINE)
            assert {*named} <= targets, block.place


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_links_to_exists(page):
    for target in re.findall(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)|(?:src|srcset)=\"([^\":]+)\"", page.read_text()):
        name = target[0] or target[1]
        assert (page.parent / name).exists(), f"{page.relative_to(ROOT)}: {name}"


class Loads(HTMLParser):
    """What a browser fetches to show a page."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        """Keeps the addresses of scripts, styles, pictures and frames."""
        kept = dict(attrs)
        if tag in {"script", "img", "iframe", "source", "video", "audio", "embed"} or (
            tag == "link" and kept.get("rel") not in {"canonical", "author", "license"}
        ):
            self.found += [kept[name] for name in ("src", "srcset", "href") if kept.get(name)]


@LONG
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_a_network(tmp_path):
    for name in ("sphinx", "myst_parser", "furo", "sphinx_copybutton"):
        pytest.importorskip(name, reason="the extra `docs` is not installed")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(site)]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=pages.environment(), check=False)
    assert made.returncode == 0, made.stderr
    found = {page.relative_to(site).with_suffix(".md") for page in site.rglob("*.html")}
    assert found >= {page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")}
    for page in site.rglob("*.html"):
        parser = Loads()
        parser.feed(page.read_text())
        assert parser.found
        assert not [address for address in parser.found if re.match(r"(?:[a-z]+:)?//", address)], page
    for style in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", style.read_text()), style
    assert '"whitney":' in (site / "searchindex.js").read_text()  # what the search reads, beside the pages
