"""Run within a host: a real autoscaler whose machines are processes, a sweep that starts with none; says what it saw"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

os.environ.update(RAY_AUTH_MODE="token", RAY_USAGE_STATS_ENABLED="0", OMP_NUM_THREADS="1")

import ray
from ray.cluster_utils import AutoscalingCluster
from stepped import Steps  # tests/support/stepped.py, which lies beside this file where it runs

KINDS = ("gpu_spot", "gpu_on_demand")
SWEEP = """
sweep: tiny
methods: [method.py]
run:
  data: {name: digits, samples_per_class: 4}
  target: {width: 0.125}
  training: {epochs: 100, batch_size: 16}
  record: {evaluations: 0}
grid:
  - {method: [stepped], seed: {from: 0, to: 9}}
execution: {retries: 0, checkpoint_s: 1, hang_s: 3600, gpu_share: 0.5, pack: 1}
"""


def kind(name, priority):
    """A kind of machine, known by a resource of its name."""
    resources = {"CPU": 2, "GPU": 1, name: 1}
    return {"resources": resources, "node_config": {}, "min_workers": 0, "max_workers": 2, "priority": priority}


def counts():
    """Nodes alive by kind."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    found = {name: sum(name in resources for resources in alive) for name in KINDS}
    return {"head": len(alive) - sum(found.values()), **found}


def main(folder):
    os.chdir(folder)
    Path("tiny.yaml").write_text(SWEEP)
    steps = Steps(folder)
    Path("method.py").write_text(steps.method)
    steps.allow(10)  # no run ends before both machines are seen
    subprocess.run(["ray", "get-auth-token", "--generate"], check=True, stdout=subprocess.DEVNULL)
    cluster = AutoscalingCluster(
        head_resources={"CPU": 0},
        worker_node_types={name: kind(name, priority) for name, priority in zip(KINDS, (1, 0), strict=True)},
        autoscaler_v2=True,
        idle_timeout_minutes=1,
        max_workers=2,
    )
    cluster.start()
    ray.init(address="auto", log_to_driver=False)
    seen = [counts()]
    command = [sys.executable, "-m", "l2t_ray.sweep", "tiny.yaml", "--address", "auto", "--no-probe", "--json"]
    launch = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    told = {}
    reader = threading.Thread(target=lambda: told.update(zip(("out", "err"), launch.communicate(), strict=True)))
    reader.start()
    while reader.is_alive():
        if (now := counts()) != seen[-1]:
            seen.append(now)
        if now["gpu_spot"] == 2:
            steps.allow(None)
        time.sleep(0.5)
    end = time.monotonic() + 600
    while sum(counts().values()) > 1 and time.monotonic() < end:
        time.sleep(1)
    after = counts()
    print(json.dumps({"seen": seen, "after": after, "code": launch.returncode, **told}))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
