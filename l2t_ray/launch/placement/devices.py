"""The devices of this machine, of a Ray cluster, or of a fleet named on the command line (`--fleet h200:8,cpu:64`)."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from l2t_ray.errors import InputError
from l2t_ray.launch.placement.limits import cores, memory_bytes
from l2t_ray.training.device import has_nvidia_driver

GIB = 2**30
CORES_A_GPU = 8.0  # assumed for a fleet named on the command line
CPU = "cpu"
VISIBLE = "CUDA_VISIBLE_DEVICES"
KNOWN = {  # kinds of `--fleet`: torch's name of the card, and its memory by the maker
    "h200": ("NVIDIA H200", 141e9),
    "h100": ("NVIDIA H100 80GB HBM3", 80e9),
    "a100": ("NVIDIA A100-SXM4-80GB", 80e9),
    "a100-40": ("NVIDIA A100-SXM4-40GB", 40e9),
    "l40s": ("NVIDIA L40S", 48e9),
    "rtx4090": ("NVIDIA GeForce RTX 4090", 24e9),
    "rtx3090": ("NVIDIA GeForce RTX 3090", 24e9),
    "t4": ("Tesla T4", 16e9),
    CPU: (CPU, 0.0),
}


@dataclass(frozen=True)
class Group:
    """Devices of one kind; each kind gets its own packs and shares."""

    device: str  # as `training.device.device_name` returns it
    n_devices: int  # graphics cards; of CPUs, machines
    memory_bytes: int  # of one device; 0 if unknown
    cores: float  # CPU cores for one device
    is_gpu: bool  # whether Ray counts it as GPUs
    marks: tuple[tuple[str, float], ...] = ()  # Ray resources that place a trial on this kind only

    def __str__(self) -> str:
        return f"{self.n_devices} x {self.device}" if self.is_gpu else f"{self.cores * self.n_devices:g} CPU cores"


def threads_tag(device: str, n_threads: int) -> dict[str, str]:
    """A run's tag with its number of CPU threads, on which the last bits of sums depend; none for a run on a card."""
    return {"threads": str(n_threads)} if device == CPU else {}


def n_cards() -> int:
    """The number of cards that this process may use: CUDA_VISIBLE_DEVICES may hide some."""
    if not has_nvidia_driver():
        return 0
    import torch

    return int(torch.cuda.device_count())


def visible_cards(text: str | None, uuids: Sequence[str], *, alike: bool = True) -> list[str]:
    """Reads CUDA_VISIBLE_DEVICES as CUDA does: the list ends before the first name that is no device.

    Args:
        text: indices ("0,2"), UUIDs or their beginnings ("GPU-4f2b"), of a part of a card ("MIG-..."), or a text that
            hides all ("", "-1", "NoDevFiles"); None if it is not set.
        uuids: of the machine's cards, in NVML's order.
        alike: whether an index means the same to CUDA as to NVML.

    Returns:
        The devices' UUIDs, each once; all cards where an index does not tell which is meant.
    """
    if text is None:
        return [*uuids]
    found: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        if name.isdecimal() and name.isascii():
            if not alike:
                return [*uuids]
            device = uuids[int(name)] if int(name) < len(uuids) else ""
        elif name.startswith("MIG-"):
            device = name
        else:
            device = next((uuid for uuid in uuids if name.startswith("GPU-") and uuid.startswith(name)), "")
        if not device:
            break
        found.append(device)
    return [*dict.fromkeys(found)]


def local_fleet() -> list[Group]:
    """This machine's cards as one kind, with the memory of the smallest; or its CPU. Refuses cards that fail."""
    n_gpus = n_cards()
    if not n_gpus:
        return [Group(CPU, 1, memory_bytes(), cores(), is_gpu=False)]
    import torch

    try:
        cards = [torch.cuda.get_device_properties(index) for index in range(n_gpus)]
    except (RuntimeError, AssertionError) as error:  # a driver that is too old, a card that is broken
        rule = f"{n_gpus} graphics cards must be usable, got {str(error).splitlines()[0]!r}"
        raise InputError(f"{rule}; set {VISIBLE} to those that are, or to -1 for the CPU") from error
    smallest = min(card.total_memory for card in cards)
    return [Group(str(cards[0].name), n_gpus, int(smallest), cores() / n_gpus, is_gpu=True)]


def libraries() -> str:
    """Torch's version, the CUDA that it was built for, and its cards: "torch 2.11.0, CUDA 13.0, no card"."""
    import torch

    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    n_gpus = n_cards()
    return f"torch {torch.__version__}, {cuda}, {n_gpus or 'no'} card{'' if n_gpus < 2 else 's'}"


def cluster_fleet(nodes: Iterable[Mapping[str, Any]], seen: Mapping[str, tuple[str, int]]) -> list[Group]:
    """The kinds of device of a Ray cluster.

    Machines without a card are used only if no machine has one: beside cards they would train so slowly that the sweep
    waited for them. A launch on them alone may run at the same time under another sweep's name.

    Args:
        nodes: of `ray.nodes()`.
        seen: by a node's address, its device's name and the memory of one device, as a worker found them.

    Returns:
        A group for each kind of card, or one group of all CPUs.
    """
    alive = [node for node in nodes if node["Alive"]]
    with_gpus = [node for node in alive if node["Resources"].get("GPU", 0) >= 1]
    kinds: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for node in with_gpus or alive:
        kinds[accelerator(node["Resources"]) if with_gpus else CPU].append(node)
    groups = []
    for kind, members in kinds.items():
        found = [seen[address] for node in members if (address := node["NodeManagerAddress"]) in seen]
        name, memory = min(found, key=lambda item: item[1]) if found else (kind, 0)
        n_cores = sum(node["Resources"].get("CPU", 0.0) for node in members)
        n_devices = int(sum(node["Resources"]["GPU"] for node in members)) if with_gpus else len(members)
        marks = ((kind, 0.001),) if len(kinds) > 1 and kind else ()
        groups.append(Group(name, n_devices, memory, n_cores / n_devices, is_gpu=bool(with_gpus), marks=marks))
    return groups


def accelerator(resources: Mapping[str, float]) -> str:
    """The resource by which Ray tells kinds of card apart ("accelerator_type:H200"); empty if Ray does not know."""
    return next((name for name in sorted(resources) if name.startswith("accelerator_type:")), "")


def parse_fleet(text: str) -> list[Group]:
    """Reads a fleet from text.

    Args:
        text: kinds and numbers (`h200:8,rtx4090:2`); for `cpu` the number of cores.

    Returns:
        One group a kind.

    Raises:
        InputError: if a kind is unknown or a number is not positive.
    """
    groups = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*([\w.-]+)\s*:\s*(\d+)\s*", part)
        if found is None or int(found[2]) < 1 or found[1].lower() not in KNOWN:
            raise InputError(
                f"--fleet must be KIND:NUMBER,... with KIND one of {', '.join(KNOWN)}, got {part!r}; "
                "write e.g. --fleet h200:8"
            )
        device, memory = KNOWN[found[1].lower()]
        if device == CPU:
            groups.append(Group(CPU, 1, 0, float(found[2]), is_gpu=False))
        else:
            groups.append(Group(device, int(found[2]), int(memory), CORES_A_GPU, is_gpu=True))
    return groups
