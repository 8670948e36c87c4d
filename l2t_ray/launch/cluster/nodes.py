"""How busy the devices of a cluster's other machines are: an actor of Ray on each samples while a launch lasts."""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from l2t_ray.errors import InputError, disk_problem
from l2t_ray.launch.cluster.usage import Usage
from l2t_ray.launch.placement.devices import VISIBLE
from l2t_ray.launch.worker.mps import CONTROL, PIPE, Wish, folder_of, service

LOOK_S = 1.0
ANSWER_S = 10.0

logger = logging.getLogger(__name__)


class Meter:
    """An actor that samples how busy one machine is."""

    def __init__(self) -> None:
        # an actor without a card of its own sees none: all of the machine's count
        self._usage, self._lock = Usage(visible=os.environ.get(VISIBLE) or None), threading.Lock()
        self._is_over = threading.Event()
        threading.Thread(target=self._watch, name="meter", daemon=True).start()

    def read(self) -> dict[str, Any]:
        """`Usage.to_json()` of the samples so far."""
        with self._lock:
            return self._usage.to_json()

    def close(self) -> None:
        """Stops sampling."""
        self._is_over.set()

    def _watch(self) -> None:
        import psutil

        psutil.cpu_percent()  # its beginning counts for this thread alone
        while not self._is_over.wait(LOOK_S):
            with self._lock:
                self._usage.tick()


@contextlib.contextmanager
def on_other_nodes() -> Iterator[Callable[[], dict[str, Any]]]:
    """Samples every other machine of the cluster while the block lasts.

    Yields:
        A function that returns the samples of each device, named ADDRESS:PORT DEVICE. A machine that does not answer is
        left out, with a warning.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    actors = {}
    for node in ray.nodes():
        if node["Alive"] and node["NodeID"] != here:
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            name = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
            actors[name] = ray.remote(Meter).options(num_cpus=0, scheduling_strategy=strategy).remote()

    def read() -> dict[str, Any]:
        answers = {actor.read.remote(): name for name, actor in actors.items()}
        ready, _ = ray.wait([*answers], num_returns=len(answers), timeout=ANSWER_S) if answers else ([], [])
        found = {}
        for answer, name in answers.items():
            try:
                devices = ray.get(answer)["devices"] if answer in ready else None
            except ray.exceptions.RayError:
                devices = None
            if devices is None:
                logger.warning("%s does not answer: how busy its devices were is not known", name)
            found.update({f"{name} {device}": samples for device, samples in (devices or {}).items()})
        return found

    try:
        yield read
    finally:
        for actor in actors.values():
            ray.kill(actor)


@contextlib.contextmanager
def on_every_node(wish: Wish, launch: str) -> Iterator[bool]:
    """Runs NVIDIA MPS on every node with a card while the block lasts.

    Args:
        wish: `execution.mps`.
        launch: a name that no other launch has.

    Yields:
        Whether processes share cards through MPS, started here or by somebody else.

    Raises:
        InputError: if `wish` is "on" and MPS does not start.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= 1]
    if wish == "on" and not nodes:
        raise InputError("execution.mps must be off or auto where there is no card, got on; change it")
    keepers = []
    for node in nodes if wish != "off" else []:
        strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        keeper = ray.remote(Keeper).options(num_cpus=0, scheduling_strategy=strategy)
        keepers.append(keeper.remote(launch, int(node["Resources"]["GPU"])))
    try:
        problems = ray.get([keeper.start.remote() for keeper in keepers])
        if problem := next((problem for problem in problems if problem and wish == "on"), ""):
            raise InputError(problem)
        for told in {problem for problem in problems if problem and CONTROL not in problem}:
            logger.warning("without NVIDIA MPS: %s", told)
        yield "" in problems or (bool(nodes) and PIPE in os.environ)
    finally:
        with contextlib.suppress(ray.exceptions.RayError):  # a node that is gone has no daemon
            ray.get([keeper.stop.remote() for keeper in keepers], timeout=4 * ANSWER_S)
        for keeper in keepers:
            ray.kill(keeper)


class Keeper:
    """An actor that keeps one node's MPS daemon.

    Args:
        launch: a name that no other launch has.
        n_gpus: of this node.
    """

    def __init__(self, launch: str, n_gpus: int) -> None:
        self._launch, self._n_gpus = launch, n_gpus
        self._runs = False

    def start(self) -> str:
        """Starts MPS; returns what went wrong, or an empty text."""
        try:
            self._service = service("on", n_gpus=self._n_gpus, folder=folder_of(self._launch))
            self._service.__enter__()
        except InputError as error:
            return str(error)
        except OSError as error:
            return disk_problem(error)
        self._runs = True
        return ""

    def stop(self) -> None:
        """Stops MPS if it runs."""
        if self._runs:
            self._runs = False
            self._service.__exit__(None, None, None)
