"""The blocks of code in the documentation, and a folder in which they run.

A fenced block of `bash`, `console`, `python` or `yaml` is run, unless the line above it says why not:
`<!-- not run: it needs a graphics card -->`. A block whose first line is a comment with a file's name becomes that
file. In a `console` block, lines that begin with `$ ` are commands, and the others are what they print; `...` stands
for anything.
"""

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.places import ROOT

RUN = {"bash", "console", "python", "yaml"}
SHOWN = {"", "text", "json", "latex"}  # no code of ours
FILE = re.compile(r"# ([\w./-]+\.(?:py|yaml))\n")
REASON = re.compile(r"<!-- not run: (.+) -->")
FENCE = re.compile(r"(?P<ticks>`{3,}|:{3,})(?P<language>.*)")
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    reason: str  # why it is not run; "" if it is

    @property
    def place(self) -> str:
        """Page and line, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str:
        """The file that it is, or "" """
        named = FILE.match(self.text)
        return named[1] if named else ""

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Of a `console` block: each command with what it prints."""
        found: list[list[str]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append([line[2:], ""])
            elif line.startswith("> "):
                found[-1][0] += f"\n{line[2:]}"
            else:
                found[-1][1] += f"{line}\n"
        return [(command, printed) for command, printed in found]


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page that are code, in order."""
    lines = page.read_text().splitlines()
    number = 0
    while number < len(lines):
        fence = FENCE.fullmatch(lines[number].strip())
        if not fence:
            number += 1
            continue
        end = next(n for n in range(number + 1, len(lines)) if lines[n].strip() == fence["ticks"])
        language = fence["language"].strip()
        if not language.startswith("{"):
            reason = REASON.fullmatch(lines[number - 1].strip()) if number else None
            text = "".join(f"{line}\n" for line in lines[number + 1 : end])
            yield Block(page, number + 1, language, text, reason[1] if reason else "")
        number = end + 1


def environment() -> dict[str, str]:
    """Commands find this Python and this checkout, and no setting of the developer's."""
    own = {name: value for name, value in os.environ.items() if name not in {"MLFLOW_TRACKING_URI", "OPTUNA_STORAGE"}}
    path = f"{Path(sys.executable).parent}{os.pathsep}{own.get('PATH', '')}"
    plain = {"NO_COLOR": "1", "COLUMNS": "120", "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    return own | plain | {"PATH": path, "PYTHONPATH": str(ROOT)}


def run(block: Block, folder: Path) -> None:
    """Runs a block in a folder, or writes the file that it is."""
    if block.file:
        (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
        (folder / block.file).write_text(block.text)
    elif block.language == "python":
        _call([sys.executable, "-c", block.text], block, folder)
    elif block.language == "bash":
        _call(["bash", "-euo", "pipefail", "-c", block.text], block, folder)
    elif block.language == "console":
        for command, printed in block.commands:
            found = _call(["bash", "-o", "pipefail", "-c", command], block, folder)
            checker = doctest.OutputChecker()
            assert checker.check_output(printed, found, SAME), f"{block.place}: {command} printed\n{found}"


def _call(command: list[str], block: Block, folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, f"{block.place} ended with {done.returncode}:\n{block.text}\n{done.stdout}"
    return done.stdout
