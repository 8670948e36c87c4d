"""A Ray cluster that somebody else has started: what goes to its workers, and which devices it has or can have."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from l2t_ray.errors import InputError
from l2t_ray.fleet import Group, cluster_fleet

LOOK_S = 180.0  # for a node's worker to start
CARD_S = 1800.0  # for a machine of the cloud to start, with all that is installed on it
LOOK_AGAIN_S = 1.0

logger = logging.getLogger(__name__)


def runtime_environment() -> dict[str, Any]:
    """Ray's runtime environment of a launch: its workers import the driver's own code, whatever they have installed.

    Returns:
        `ray.init`'s argument.
    """
    passed = [name for name in os.environ if name.startswith("RAY_CHDIR")]
    return {
        "py_modules": [str(Path(__file__).parent)],
        "excludes": ["__pycache__"],
        "env_vars": {name: os.environ[name] for name in passed},
    }


def joined_fleet(say: Callable[[str], None] = lambda line: None) -> list[Group]:
    """The devices of the cluster that this process has joined; one worker on each node looks.

    Where there is neither a CPU nor a card (a head that trains nothing, all others gone), the autoscaler is asked for a
    card first. The packs that wait then ask for more, and an idle node goes when the cluster's time-out is over.

    Args:
        say: is told when there is something to wait for.

    Returns:
        A group for each kind.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    _await_card(say)
    seen = {}
    nodes = ray.nodes()
    for node in nodes:
        if not node["Alive"]:
            continue
        on_node = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        n_gpus = 1 if node["Resources"].get("GPU", 0) >= 1 else 0
        options = {"num_cpus": 0, "num_gpus": n_gpus, "max_calls": 1, "scheduling_strategy": on_node}
        look = ray.remote(**options)(_look)
        seen[node["NodeManagerAddress"]] = look.remote()
    found = {}
    for address, answer in seen.items():
        try:
            found[address] = ray.get(answer, timeout=LOOK_S)
        except ray.exceptions.RayError as error:
            logger.warning("%s: what its devices are cannot be found out: %s", address, error)
    return cluster_fleet(nodes, found)


def _await_card(say: Callable[[str], None]) -> None:
    import ray
    from ray.autoscaler.sdk import request_resources

    def has(kind: str) -> bool:
        return any(node["Resources"].get(kind, 0) >= 1 for node in ray.nodes() if node["Alive"])

    if has("CPU") or has("GPU"):
        return
    say("no machine that can train runs yet; the cluster is asked for one with a card")
    end = time.monotonic() + CARD_S
    request_resources(bundles=[{"GPU": 1}])
    try:
        while not has("GPU"):
            if time.monotonic() > end:
                raise InputError(
                    f"--address must lead to a cluster that has a CPU or a card, or starts one in {CARD_S / 60:.0f} "
                    "minutes, got neither; `ray status` on its head tells why"
                )
            time.sleep(LOOK_AGAIN_S)
    finally:
        request_resources(bundles=[])  # it may go again when it is idle


def _look() -> tuple[str, int]:
    """In a worker: its device's name, and the memory of one."""
    import torch

    from l2t_ray.device import device_name
    from l2t_ray.fleet import memory_bytes

    if torch.cuda.is_available():
        return device_name(), int(torch.cuda.get_device_properties(0).total_memory)
    return device_name(), memory_bytes()
