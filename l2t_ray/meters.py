"""How busy the devices of a cluster's other machines are: an actor of Ray on each samples while a launch lasts."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from l2t_ray.usage import Usage

LOOK_S = 1.0
ANSWER_S = 10.0

logger = logging.getLogger(__name__)


class Meter:
    """Samples one machine; an actor of Ray."""

    def __init__(self) -> None:
        self._usage, self._lock = Usage(), threading.Lock()
        threading.Thread(target=self._watch, name="meter", daemon=True).start()

    def read(self) -> dict[str, Any]:
        """What was sampled so far.

        Returns:
            `Usage.to_json()`.
        """
        with self._lock:
            return self._usage.to_json()

    def _watch(self) -> None:
        import psutil

        psutil.cpu_percent()  # its beginning counts for this thread alone
        pause = threading.Event()
        while not pause.wait(LOOK_S):
            with self._lock:
                self._usage.tick()


@contextlib.contextmanager
def on_other_nodes() -> Iterator[Callable[[], dict[str, Any]]]:
    """Samples every machine of the Ray that runs but this one, while the block lasts.

    Yields:
        A function that returns each device's samples, its name after the machine's address; a machine that is gone or
        does not answer is left out, and told.
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
