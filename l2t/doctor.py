"""`l2t doctor`: looks at this machine and says in one line each what is there, what is missing, and the remedy."""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from l2t_ray.errors import InputError, LedgerUnavailableError, count
from l2t_ray.files import HOME, Lock
from l2t_ray.launch.placement.devices import GIB, libraries, local_fleet
from l2t_ray.launch.placement.limits import cores, memory_bytes
from l2t_ray.launch.worker.mps import CONTROL, PIPE
from l2t_ray.ledger.address import database_file, tracking_uri
from l2t_ray.ledger.reader import open_ledger
from l2t_ray.published import ARCHIVES

OK, NOTE, WRONG = "ok", "note", "WRONG"
LEAST_PYTHON = (3, 11)
LEAST_DISK_GIB, LEAST_MEMORY_GIB, LEAST_SHARED_GIB = 5, 2, 1
SHARED = Path("/dev/shm")
DATA = Path("data")
SETS = {name: (folder, archive) for name, (folder, archive, _) in ARCHIVES.items()}
SETS["tiny_imagenet"] = ("tiny-imagenet-200", "tiny-imagenet-200.zip")
WEIGHTS = Path("weights")


@dataclass(frozen=True)
class Line:
    """What was found of one thing."""

    state: str  # OK, NOTE or WRONG
    name: str
    found: str
    remedy: str = ""


def examine(stream: TextIO) -> int:
    """Prints a line for each thing that a launch needs; returns 1 if one of them is wrong, else 0."""
    is_wrong = False
    for look in (_python, _torch, _devices, _mps, _memory, _ray, _folder, _names, _ledger, _disk, _data_sets, _weights):
        for line in _lines(look):
            is_wrong |= line.state == WRONG
            remedy = f"; {line.remedy}" if line.remedy else ""
            print(f"{line.state:5}  {line.name:9}  {line.found}{remedy}", file=stream, flush=True)
    return 1 if is_wrong else 0


def _lines(look: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    """What one look has found, its refusal included."""
    name = look.__name__.strip("_").replace("_", " ")
    try:
        yield from look()
    except InputError as error:
        for problem in error.problems:
            yield Line(WRONG, name, problem)
    except LedgerUnavailableError as error:
        yield Line(WRONG, name, str(error))
    except (ImportError, OSError) as error:  # a library that is broken or not installed
        yield Line(WRONG, name, f"must be importable, got {error}", "install l2t-ray again")


def _python() -> Iterator[Line]:
    found = f"{'.'.join(map(str, sys.version_info[:3]))} in {sys.prefix}"
    if sys.version_info < LEAST_PYTHON:
        yield Line(WRONG, "python", found, f"take {'.'.join(map(str, LEAST_PYTHON))} or newer")
    else:
        yield Line(OK, "python", found)


def _torch() -> Iterator[Line]:
    yield Line(OK, "torch", libraries())


def _devices() -> Iterator[Line]:
    for group in local_fleet():
        if group.is_gpu:
            yield Line(OK, "devices", f"{group}, {group.memory_bytes / GIB:.0f} GiB each, {cores()} CPU cores")
        elif shutil.which("nvidia-smi"):
            yield Line(WRONG, "devices", f"{group}; the cards do not answer", "look at `nvidia-smi`")
        else:
            yield Line(
                NOTE, "devices", f"{group}, no NVIDIA card", "small sweeps train on a CPU, the thesis' need cards"
            )


def _mps() -> Iterator[Line]:
    if PIPE in os.environ:
        yield Line(OK, "mps", f"a service runs already ({PIPE})")
    elif shutil.which(CONTROL):
        yield Line(OK, "mps", f"{CONTROL} is there; a launch starts and stops it")
    elif shutil.which("nvidia-smi"):
        yield Line(NOTE, "mps", f"no {CONTROL}, so trainings on one card take turns", "install it with the driver")


def _memory() -> Iterator[Line]:
    free = memory_bytes() / GIB
    if free < LEAST_MEMORY_GIB:
        yield Line(WRONG, "memory", f"{free:.1f} GiB free", f"free some: a launch needs {LEAST_MEMORY_GIB} GiB")
    else:
        yield Line(OK, "memory", f"{free:.1f} GiB free")


def _ray() -> Iterator[Line]:
    found = f"ray {importlib.metadata.version('ray')}"
    if address := os.environ.get("RAY_ADDRESS"):
        remedy = f"join that cluster with --address {address}"
        yield Line(NOTE, "ray", f"{found}, RAY_ADDRESS={address} is not read: launches train here", remedy)
    elif SHARED.is_dir() and (room := shutil.disk_usage(SHARED).free / GIB) < LEAST_SHARED_GIB:
        yield Line(NOTE, "ray", f"{found}, {SHARED} has {room:.1f} GiB", "give a container --shm-size=4g")
    else:
        yield Line(OK, "ray", found)


def _folder() -> Iterator[Line]:
    with Lock(HOME / "doctor.lock"):
        yield Line(OK, "folder", f"{Path.cwd()} can be written to, and files in it locked")


def _names() -> Iterator[Line]:
    ours = Path(__file__).resolve().parents[1]
    for name in ("analysis", "l2t", "l2t_ray"):
        for file in (Path(f"{name}.py"), Path(name, "__init__.py")):
            if file.is_file() and file.resolve() != ours / file:
                found = f"{file} hides our package {name} from `python -m {name}` and from scripts here"
                yield Line(NOTE, "names", found, "rename it")


def _ledger() -> Iterator[Line]:
    file = database_file(tracking_uri())
    if file is not None and not file.is_file():
        yield Line(OK, "ledger", f"{file} does not exist yet; the first launch creates it")
        return
    reader, shown = open_ledger()
    yield Line(OK, "ledger", f"{shown}, {count(sum(entry.kind == 'run' for entry in reader.entries()), 'run')}")


def _disk() -> Iterator[Line]:
    free = shutil.disk_usage(Path()).free / GIB
    state = OK if free >= LEAST_DISK_GIB else WRONG
    remedy = "" if state == OK else f"free some: data sets, checkpoints and the ledger need {LEAST_DISK_GIB} GiB"
    yield Line(state, "disk", f"{free:.1f} GiB free in the working folder", remedy)


def _data_sets() -> Iterator[Line]:
    there = [name for name, files in SETS.items() if any((DATA / file).exists() for file in files)]
    absent = [name for name in SETS if name not in there]
    yield Line(OK, "data", f"{', '.join(['digits', *there])} {'are' if there else 'is'} here")
    if absent:
        yield Line(NOTE, "data", f"not in {DATA}/: {', '.join(absent)}", "a launch that reads one fetches it")


def _weights() -> Iterator[Line]:
    files = sorted(file for file in WEIGHTS.glob("*") if file.suffix in {".pt", ".pth", ".tar", ".safetensors"})
    if files:
        yield Line(OK, "weights", ", ".join(f"{file} ({file.stat().st_size / 2**20:.1f} MiB)" for file in files))
    else:
        yield Line(NOTE, "weights", f"none in {WEIGHTS}/", "a launch trains or fetches the source that it needs")
