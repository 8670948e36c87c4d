"""Does the report find the thesis' conclusions in runs drawn from its printed numbers, and how long does it take?

    python -m benchmarks.bench_stats [--draws 200] [--time [--sweeps 10]] [--coverage]

Without an option, it draws the 30 cells behind the thesis' 15 p-values `--draws` times, 30 seeds each, and compares the
15 Mann-Whitney tests of each draw with the thesis' verdicts. It does so twice: *exact* draws have the printed mean and
half-width in every cell; *free* draws have them only in expectation, as a repetition of the whole study would.
With `--coverage`: how many of `--draws` 95 % intervals of a difference of means hold the true one.
With `--time`: reads a ledger of 2,000 runs with learning curves of 200 epochs, and writes its report.
"""

import argparse
import json
import platform
import resource
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from analysis.results.published import ALPHA, load_claims, load_published
from l2t_ray.statistics.effect import Estimate, mean_difference
from l2t_ray.statistics.hypothesis import mann_whitney
from tests.support.thesis import draw, thesis_runs

TESTS = Path(__file__).parents[1] / "tests"


def count_verdicts(n_draws: int, *, exact: bool, seed: int = 0) -> dict[str, object]:
    """How often tests of drawn runs reach the thesis' verdicts."""
    table = {(cell.data, cell.samples_per_class, cell.method): cell for cell in load_published()}
    claims, draws = load_claims(), np.random.default_rng(seed)
    significant = np.zeros((n_draws, len(claims)), dtype=bool)
    for row in significant:
        for place, claim in enumerate(claims):
            cells = (table[claim.data, claim.samples_per_class, method] for method in ("l2t_www", "l2t_ww"))
            p = mann_whitney(*(draw(cell, draws, exact=exact) for cell in cells)).p
            row[place] = p is not None and p < ALPHA
    said = np.array([claim.claims_significance for claim in claims])
    agrees = significant == said
    return {
        "draws": n_draws,
        "all_15_verdicts": float(agrees.all(axis=1).mean()),
        "mean_verdicts_of_15": float(agrees.sum(axis=1).mean()),
        "mean_significant_of_the_7": float(significant[:, said].sum(axis=1).mean()),
        "mean_significant_of_the_8": float(significant[:, ~said].sum(axis=1).mean()),
        "by_cell": {
            f"{claim.data}/{claim.samples_per_class} (thesis {claim.p_printed})": float(share)
            for claim, share in zip(claims, significant.mean(axis=0), strict=True)
        },
    }


def bca_interval(x: np.ndarray, y: np.ndarray) -> Estimate:
    """The rival of Welch's interval: SciPy's BCa bootstrap of 9,999 resamples within each method (Efron 1987)."""
    found = stats.bootstrap(
        (x, y),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        n_resamples=9_999,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(float(x.mean() - y.mean()), float(found.low), float(found.high), "BCa bootstrap")


def count_covered(n_draws: int, *, seed: int = 0) -> dict[str, object]:
    """The share of Welch's and of BCa intervals that hold the true difference of means, 0; every sd is 1."""
    draws = np.random.default_rng(seed)
    kinds = {
        "normal": lambda shape: draws.normal(0, 1, shape),
        "skewed": lambda shape: 1 - draws.exponential(1, shape),  # to the left, as accuracies near their ceiling
    }
    found = {}
    for name, (left, right) in {
        "two normal": ("normal", "normal"), "two skewed": ("skewed", "skewed"), "one skewed": ("skewed", "normal"),
    }.items():  # fmt: skip
        for n in (3, 5, 7, 10, 15, 20, 30):
            pairs = list(zip(kinds[left]((n_draws, n)), kinds[right]((n_draws, n)), strict=True))
            for interval in (mean_difference, bca_interval):
                ends = [interval(x, y) for x, y in pairs]
                found[f"{name}, n = {n}, {interval.__name__}"] = sum(e.low <= 0 <= e.high for e in ends) / n_draws
    return found


def time_report(n_sweeps: int) -> dict[str, object]:
    """Seconds to read sweeps of 2,000 runs and to write their report, the size of the page, and the peak memory."""
    from analysis.report.evidence import gather
    from analysis.report.page import write_report
    from analysis.results.runs import read_results
    from tests.support.ledgers import fill

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
            connection.executescript((TESTS / "fixtures" / "ledger_schema.sql").read_text())
        for number in range(n_sweeps):  # each has data sets of its own
            runs = thesis_runs(number, n_epochs=200, further=110, minority=True)
            ending = f"_{number}" if number else ""
            renamed = [replace(run, data=f"{run.data}{ending}", key="") for run in runs]
            fill(folder / "mlflow.db", f"thesis{ending}", renamed)
        uri = f"sqlite:///{folder}/mlflow.db"
        begun = time.perf_counter()
        read_results(uri=uri)
        read, busy = time.perf_counter(), time.process_time()
        write_report(gather(uri=uri), folder / "report")
        written, busy = time.perf_counter(), time.process_time() - busy
        page = (folder / "report" / "index.html").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "runs": n_sweeps * len(runs), "read_s": read - begun, "report_s": written - read, "report_cpu_s": busy,
        "page_bytes": page, "peak_bytes": peak,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--sweeps", type=int, default=1, help="with --time, of 2,000 runs each")
    parser.add_argument("--coverage", action="store_true")
    arguments = parser.parse_args()
    found: dict[str, object] = {"python": platform.python_version(), "machine": platform.processor() or "unknown"}
    if arguments.time:
        found |= time_report(arguments.sweeps)
    elif arguments.coverage:
        found |= count_covered(arguments.draws)
    else:
        found |= {name: count_verdicts(arguments.draws, exact=name == "exact") for name in ("exact", "free")}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
