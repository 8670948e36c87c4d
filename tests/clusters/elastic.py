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

KIND = {"resources": {"CPU": 2, "GPU": 1}, "node_config": {}, "min_workers": 0}
SWEEP = """
sweep: tiny
run:
  data: {name: digits, samples_per_class: 4}
  target: {width: 0.125}
  training: {epochs: 100, batch_size: 16}
  record: {evaluations: 0}
grid:
  - {method: [scratch], seed: {from: 0, to: 9}}
execution: {retries: 0, checkpoint_s: 1, gpu_share: 0.5, pack: 1}
"""


def counts():
    """Nodes alive by what the autoscaler calls them."""
    found = {}
    for node in ray.nodes():
        if node["Alive"]:
            kind = node["Labels"].get("ray.io/node-type", "?")
            found[kind] = found.get(kind, 0) + 1
    return found


def main(folder):
    os.chdir(folder)
    Path("tiny.yaml").write_text(SWEEP)
    subprocess.run(["ray", "get-auth-token", "--generate"], check=True, stdout=subprocess.DEVNULL)
    cluster = AutoscalingCluster(
        head_resources={"CPU": 0},
        worker_node_types={
            "gpu_spot": {**KIND, "max_workers": 2, "priority": 1},
            "gpu_on_demand": {**KIND, "max_workers": 2, "priority": 0},
        },
        autoscaler_v2=True,
        idle_timeout_minutes=0.2,
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
        time.sleep(0.5)
    end = time.monotonic() + 120
    while len(counts()) > 1 and time.monotonic() < end:
        time.sleep(1)
    after = counts()
    print(json.dumps({"seen": seen, "after": after, "code": launch.returncode, **told}))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
