"""Kills at random whatever a sweep stands on, and checks that its ledger is as if nothing had happened.

    make chaos
    python -m tests.chaos.campaign [--kills 50] [--sweeps 5] [--seed 0] [--minutes 60]

A kill is SIGKILL: to a process that trains, to a node of Ray with all its processes, to the launch, to MLflow's server,
or to all at once with the database. Beside them, once a sweep, the disk is full for a while, the tracking database is
locked for a minute, and a process hangs. A launch that ends is launched again until it says that all is finished; then
the ledger must hold each run once, bitwise as an undisturbed training gives it.
"""

import argparse
import collections
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.audit import unpacked
from tests.chaos.storm import sweep_in_a_storm
from tests.chaos.world import NAME, Size, prepare

WORLDS = [  # where the ledger is, and whether Ray's nodes are apart from the launch
    ("sqlite", False),
    ("server", True),
    ("served-postgres", False),
    ("sqlite", True),
    ("postgres", True),
]
SIZE = Size(seeds=16, epochs=12, many=50)


def reference(file):
    """What undisturbed runs come to, kept in a file for the next time."""
    from tests.chaos.audit import undisturbed

    if file is not None and file.exists():
        return unpacked(file.read_text())
    with tempfile.TemporaryDirectory() as name:
        here = Path.cwd()
        prepare(Path(name), SIZE, Path(name) / "data")
        os.chdir(name)
        try:
            found = undisturbed(f"{NAME}.yaml")
        finally:
            os.chdir(here)
    if file is not None:
        file.write_text(json.dumps(found))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--sweeps", type=int, default=len(WORLDS), help="each gets its share of the kills, rounded up")
    parser.add_argument("--first", type=int, default=0, help="of the sweeps, to go on with")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="in all, at the most")
    parser.add_argument("--locked-s", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=Path("report/chaos.json"))
    parser.add_argument("--reference", type=Path, help="keeps what undisturbed runs come to, for the next time")
    arguments = parser.parse_args()
    began, out = time.monotonic(), arguments.out.resolve()

    def say(text):
        print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)

    expected = reference(arguments.reference)
    say(f"{len(expected)} runs undisturbed")
    faults, rows = collections.Counter(), []
    n_kills = -(-arguments.kills // arguments.sweeps)
    with tempfile.TemporaryDirectory() as data_dir:
        for number in range(arguments.first, arguments.first + arguments.sweeps):
            backend, nodes = WORLDS[number % len(WORLDS)]
            say(f"sweep {number}: ledger {backend}, {'nodes' if nodes else 'one machine'}, {n_kills} kills")
            done = sweep_in_a_storm(
                backend,
                n_kills,
                random.Random(f"{arguments.seed}-{number}"),
                nodes=nodes,
                size=SIZE,
                end=began + 60 * arguments.minutes,
                say=say,
                data_dir=data_dir,
                locked_s=arguments.locked_s,
                expected=expected,
            )
            faults += done.faults
            rows.append({
                "backend": backend,
                "nodes": nodes,
                "kills": done.n_kills,
                "faults": done.faults,
                "codes": done.codes,
                "runs": done.n_runs,
                "seconds": done.seconds,
                "tracebacks": len(done.tracebacks),
                **vars(done.audit),
            })
            say(f"{done.n_runs} runs, {done.n_kills} kills, {len(done.codes)} launches: {done.audit}")
            out.parent.mkdir(parents=True, exist_ok=True)
            out.with_name(f"{out.stem}-{number}.log").write_text(done.log)
            out.write_text(json.dumps({"seed": arguments.seed, "cores": os.cpu_count(), "rows": rows}, indent=1))
    say(f"what happened: {dict(faults)}")
    totals = {name: sum(len(row[name]) for row in rows) for name in ("lost", "doubled", "changed", "left_over")}
    totals["tracebacks"] = sum(row["tracebacks"] for row in rows)
    verdict = "FAILED" if any(totals.values()) else "PASSED"
    found = ", ".join(f"{name} {n}" for name, n in totals.items())
    say(f"{verdict}: {sum(row['kills'] for row in rows)} kills in {len(rows)} sweeps of {len(expected)} runs: {found}")
    return verdict == "FAILED"


if __name__ == "__main__":
    sys.exit(main())
