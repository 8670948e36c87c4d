"""A sweep of 2,000 tiny runs on 4 pretended nodes, one of which is lost every 30 s; the driver's memory over time.

    make load
    python -m tests.load.sweep_of_thousands [--runs 2000] [--nodes 4] [--every-s 30]

The runs are of a trainer that returns at once (`benchmarks.bench_overhead`): what is loaded is everything else.
The nodes are `ray.cluster_utils.Cluster`'s, raylets with processes of their own on this machine; to lose one is
SIGKILL to all of them. Another joins at once.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psutil

from benchmarks.bench_overhead import EPOCHS, NOTHING, TRAINER
from tests.chaos.world import kill_tree
from tests.load.chart import draw_memory
from tests.support.places import ROOT

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "MLFLOW_DISABLE_TELEMETRY": "true"}
QUICK = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}


def sample(process, began, samples, ended):
    """The driver's resident memory, twice a second."""
    while not ended.wait(0.5):
        try:
            samples.append((time.monotonic() - began, process.memory_info().rss))
        except psutil.NoSuchProcess:
            return


def join(cluster, addresses):
    """Another machine; Ray gives up after 30 s, which a busy one may need longer than."""
    for _ in range(5):
        try:
            return cluster.add_node(num_cpus=1, node_ip_address=next(addresses))
        except Exception as error:
            print(f"a node did not join: {error}", flush=True)
    raise AssertionError("no node joined in five tries")


def pids_of(node):
    return [info.process.pid for infos in node.all_processes.values() for info in infos]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--every-s", type=float, default=30.0)
    parser.add_argument("--minutes", type=float, default=40.0, help="at the most")
    parser.add_argument("--out", type=Path, default=Path("report/load.json"))
    parser.add_argument("--plot", type=Path, default=Path("docs/driver-memory.svg"))
    arguments = parser.parse_args()
    os.environ.update({**QUIET, **QUICK, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    out, plot = arguments.out.resolve(), arguments.plot.resolve()
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="load-") as name:
        folder = Path(name)
        (folder / "nothing.py").write_text(TRAINER)
        text = NOTHING.replace("sweep: overhead", "sweep: thousands").format(epochs=EPOCHS, last=arguments.runs - 1)
        (folder / "thousands.yaml").write_text(text + "execution: {hang_s: 60}\n")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        addresses = (f"127.0.0.{number}" for number in range(2, 255))  # the launch is on the head's machine
        nodes = [join(cluster, addresses) for _ in range(arguments.nodes)]
        command = [sys.executable, "-m", "l2t_ray.sweep", "thousands.yaml", "--no-probe", "--json"]
        command += ["--address", cluster.address]
        environment = {**os.environ, "PYTHONFAULTHANDLER": "1", "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        began, samples, ended, lost = time.monotonic(), [], threading.Event(), []
        with (folder / "out").open("w") as stdout, (folder / "err").open("w") as stderr:
            driver = subprocess.Popen(command, cwd=folder, env=environment, stdout=stdout, stderr=stderr)
        watch = threading.Thread(target=sample, args=(psutil.Process(driver.pid), began, samples, ended))
        watch.start()
        try:
            while driver.poll() is None and time.monotonic() - began < 60 * arguments.minutes:
                try:
                    driver.wait(arguments.every_s)
                except subprocess.TimeoutExpired:
                    node = nodes.pop(0)
                    for pid in pids_of(node):
                        kill_tree(pid)
                    cluster.remove_node(node, allow_graceful=False)
                    lost.append(time.monotonic() - began)
                    nodes.append(join(cluster, addresses))
                    print(f"{lost[-1]:6.0f} s  {len(lost)} nodes lost, {samples[-1][1] / 2**20:.0f} MiB", flush=True)
        finally:
            ended.set()
            if driver.poll() is None:
                driver.send_signal(signal.SIGABRT)  # says where it hangs
            driver.wait()
            watch.join()
            cluster.shutdown()
        wall_s = time.monotonic() - began
        print((folder / "err").read_text()[-6000:], flush=True)
        print(f"the launch ended with {driver.returncode}", flush=True)
        summary = json.loads((folder / "out").read_text())
        doubled = doubles(folder / "mlflow.db")
    row = {
        "runs": arguments.runs,
        "finished": summary["n_finished"],
        "doubled": doubled,
        "exit_code": driver.returncode,
        "wall_s": wall_s,
        "nodes_lost": len(lost),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "lost_at_s": lost,
        "memory": samples[::4],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(row))
    growth = draw_memory(samples, lost, plot)
    print(f"the driver grew by {growth:.2f} MiB a minute in the second half; {plot}")
    failed = (row["finished"], doubled, driver.returncode) != (arguments.runs, 0, 0)
    print(
        f"{'FAILED' if failed else 'PASSED'}: {row['finished']} of {row['runs']} finished, {doubled} doubled, "
        f"{len(lost)} nodes lost, exit code {driver.returncode}, {wall_s:.0f} s"
    )
    return failed


def doubles(database):
    """Keys with more than one finished run."""
    import sqlite3

    query = (
        "SELECT tags.value FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'l2t.key'"
        " WHERE runs.status = 'FINISHED' AND runs.lifecycle_stage = 'active'"
    )
    with sqlite3.connect(database) as connection:
        counts = Counter(key for (key,) in connection.execute(query))
    return sum(1 for number in counts.values() if number > 1)


if __name__ == "__main__":
    sys.exit(main())
