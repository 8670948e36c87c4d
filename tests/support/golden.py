"""The small ledger behind the golden report, and the report's files as one text.

`python -m tests.support.golden` in the checkout writes `tests/fixtures/golden_report.txt` anew.
"""

import io
import json
import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pandas as pd

from tests.support.ledgers import Logged, fill
from tests.support.places import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
LEDGER = FIXTURES / "golden_ledger.json"
REPORT = FIXTURES / "golden_report.txt"
NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d{6,}(?:e[+-]?\d+)?")
COMPUTED = re.compile(r"Computed with scipy [\w.+]+(?:, \w+ [\w.+]+)*")


def runs_of(stored: dict) -> tuple[list[Logged], list[Logged]]:
    """The finished runs of the stored ledger, and the runs that are only wanted."""
    runs = []
    for run in stored["runs"]:
        trace = run.pop("trace", None)
        logged = Logged(**run, versions='{"torch": "2.14.1"}')
        if trace:
            buffer = io.BytesIO()
            frame = pd.DataFrame(trace, columns=["epoch", "name", "index", "value"])
            frame.astype({"epoch": "int32", "value": "float32"}).to_parquet(buffer, index=False)
            logged.artifacts["traces.parquet"] = buffer.getvalue()
        runs.append(logged)
    return runs, [Logged(**run) for run in stored["wanted"]]


def fill_golden(database: Path) -> None:
    """Writes the stored ledger into an empty database."""
    stored = json.loads(LEDGER.read_text())
    runs, wanted = runs_of(stored)
    fill(database, stored["sweep"], runs, wanted=wanted)


def text_of(folder: Path) -> str:
    """A report's text files as one text without figures, hashes; ten digits, as processors differ in the last bits."""
    parts = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".svg", ".pdf", ".png", ".parquet", ".sha256"} or path.is_dir():
            continue
        text = re.sub(r'base64,[^"]+', "base64,", path.read_text(encoding="utf-8"))
        text = NUMBER.sub(lambda found: f"{float(found[0]):.10g}", text)
        text = COMPUTED.sub("Computed with the libraries at hand.", text)
        parts.append(f"=== {path.relative_to(folder).as_posix()}\n{text}")
    return "".join(parts)


def main() -> None:
    """Writes the golden report anew."""
    from analysis.report.evidence import gather
    from analysis.report.page import write_report

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
            connection.executescript((FIXTURES / "ledger_schema.sql").read_text())
        fill_golden(folder / "mlflow.db")
        write_report(gather(uri=f"sqlite:///{folder}/mlflow.db"), folder / "report")
        REPORT.write_text(text_of(folder / "report"), encoding="utf-8")


if __name__ == "__main__":
    main()
