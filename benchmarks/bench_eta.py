"""How well a launch predicts its own end: the error of the time left at every report of its progress.

    python -m benchmarks.bench_eta [--sweep sweeps/quickstart.yaml] [--repeat 3] [--load 2] [--out report/bench_eta]

Every launch has a fresh folder: an empty ledger and no measured speeds; source networks are trained before. The truth
is the wall time from a launch's first line to the end of its process. The error of a prediction is that of the whole
time, elapsed and left, in percent of the truth. `--load` runs busy processes beside it, as polite as Ray's workers
(nice 15); rude ones would starve those. The events of each launch are written to `--out`, from where
`tests/fixtures/launch_*.json` come.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from l2t_ray.launch.placement.eta import Eta, Forecast
from l2t_ray.sweepfile.read import read_sweep

ROOT = Path(__file__).parents[1]
NICENESS = 15  # of Ray's workers
FIFTHS = 5
WANTED_PERCENT = 25.0


class Recorded(Forecast):
    """A forecast that keeps what it is told and what it tells."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.events: list[list[Any]] = []
        self.waiting: dict[str, int] = {}
        RECORDS.append(self)

    def began(self, *given: Any) -> None:
        self.events.append([time.monotonic(), "began", *given])
        super().began(*given)

    def reached(self, *given: Any) -> None:
        if not self.events or self.events[-1][1:] != ["reached", *given]:
            self.events.append([time.monotonic(), "reached", *given])
        super().reached(*given)

    def ended(self, *given: Any) -> None:
        self.events.append([time.monotonic(), "ended", *given])
        super().ended(*given)

    def eta(self, waiting: Any) -> Eta | None:
        found = super().eta(waiting)
        self.waiting = self.waiting or dict(waiting)
        told = [None] * 3 if found is None else [found.left_s, found.low_s, found.high_s]
        self.events.append([time.monotonic(), "eta", *told])
        return found


RECORDS: list[Recorded] = []


def launch_recorded(file: str, out: Path) -> int:
    """Launches a sweep in this process and writes what its forecast has kept."""
    from l2t_ray import sweep
    from l2t_ray.launch import options

    options.Forecast = Recorded  # type: ignore[misc]
    code = sweep.main([file])
    (record,) = RECORDS
    lanes = {shape: [vars(lane) for lane in record._lanes(shape)] for shape in record.waiting}
    out.write_text(json.dumps({"lanes": lanes, "runs": record.waiting, "events": record.events}))
    return code


def launch(file: str, prepared: Path) -> dict[str, Any]:
    """Launches a sweep in a fresh folder; returns its events, in seconds since its first line, and its wall time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(prepared, folder, dirs_exist_ok=True, symlinks=True)
        words = [sys.executable, "-m", "benchmarks.bench_eta", "--launch", "events.json", "--sweep", file]
        process = subprocess.Popen(words, cwd=folder, env=_environment(), stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        print(process.stderr.readline(), end="", flush=True)
        begun = time.monotonic()
        for line in process.stderr:
            print(line, end="", flush=True)
        if process.wait():
            raise SystemExit(f"{file}: the launch ended with {process.returncode}")
        found: dict[str, Any] = json.loads((folder / "events.json").read_text())
        wall_s = time.monotonic() - begun
    found["events"] = [[round(at - begun, 2), *rest] for at, *rest in found["events"]]
    return {"wall_s": round(wall_s, 2), **found}


@contextlib.contextmanager
def busy(n: int) -> Iterator[None]:
    """Runs n processes that do nothing but take a core."""
    words = [sys.executable, "-c", f"import os; os.nice({NICENESS})\nwhile True: pass"]
    processes = [subprocess.Popen(words) for _ in range(n)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def judge(record: dict[str, Any]) -> bool:
    """Prints the errors of a launch by fifths of its way; returns whether they were small enough from a fifth on."""
    wall_s, worst = record["wall_s"], 0.0
    told = [(at, *rest) for at, what, *rest in record["events"] if what == "eta" and rest[0] is not None]
    for fifth in range(FIFTHS):
        part = [row for row in told if fifth <= FIFTHS * row[0] / wall_s < fifth + 1]
        errors = [100 * (at + left_s - wall_s) / wall_s for at, left_s, *_ in part]
        n_held = sum(low_s <= wall_s - at <= high_s for at, _, low_s, high_s in part)
        span = f"{min(errors):+.0f} to {max(errors):+.0f} % of the truth" if errors else "no prediction"
        print(f"{20 * fifth} to {20 * (fifth + 1)} % of the way: {span}; the range held {n_held} of {len(part)} times")
        worst = max([worst, *map(abs, errors)]) if fifth else 0.0
    is_good = worst <= WANTED_PERCENT
    print(f"{wall_s:.0f} s; from a fifth on the largest error is {worst:.0f} %", flush=True)
    return is_good


def _environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return own | {"PYTHONPATH": str(ROOT)}


def main() -> int:
    """Launches, measures, and prints a verdict as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", default="sweeps/quickstart.yaml", help="a file below sweeps/")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--load", type=int, default=0, help="busy processes beside it")
    parser.add_argument("--out", type=Path, default=Path("report/bench_eta"))
    parser.add_argument("--launch", type=Path, help=argparse.SUPPRESS)  # this process is the launch
    options = parser.parse_args()
    if options.launch:
        return launch_recorded(options.sweep, options.launch)
    options.out.mkdir(parents=True, exist_ok=True)
    verdicts = []
    with tempfile.TemporaryDirectory() as name:
        prepared = Path(name)
        (prepared / "sweeps").symlink_to(ROOT / "sweeps")
        with contextlib.chdir(prepared):
            sources = read_sweep(Path(options.sweep)).sources
        for file in sources.values():
            words = [sys.executable, "-m", "l2t_ray.pretrain", str(file)]
            quick = _environment() | {"OMP_NUM_THREADS": "1"}
            subprocess.run(words, cwd=prepared, env=quick, check=True, capture_output=True)
        for number in range(options.repeat):
            print(
                f"{len(os.sched_getaffinity(0))} cores, load before {os.getloadavg()[0]:.1f}, {options.load} beside it"
            )
            with busy(options.load):
                record = launch(options.sweep, prepared)
            content = {"about": f"{options.sweep} beside {options.load} busy processes", **record}
            (options.out / f"load{options.load}-{number}.json").write_text(json.dumps(content))
            verdicts.append(judge(record))
    verdict = "yes" if all(verdicts) else "no"
    print(f"within {WANTED_PERCENT:.0f} % from a fifth on: {verdict} ({sum(verdicts)} of {len(verdicts)} launches)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
