"""The sweep files that come with the package: their copies in the working folder, and the quick start."""

import os
from importlib import resources
from pathlib import Path

from analysis import stats
from l2t_ray import pretrain, sweep
from l2t_ray.errors import InputError, count, say
from l2t_ray.files import write_atomic

SWEEPS = Path("sweeps")
SOURCE, QUICKSTART = "quickstart_source.yaml", "quickstart.yaml"
THREADS = "OMP_NUM_THREADS"


def shipped() -> dict[str, bytes]:
    """Returns the shipped sweep files, and their schema for editors, by name."""
    folder = resources.files("l2t") / "sweeps"
    return {
        file.name: file.read_bytes()
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith((".yaml", ".json"))
    }


def copy_sweeps(folder: Path) -> int:
    """Copies the shipped files that a folder lacks; what is there already stays as it is.

    Args:
        folder: created if it is missing.

    Returns:
        The exit code.

    Raises:
        InputError: if a file is in the folder's place.
    """
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir():
        raise InputError(f"{there}: must be a folder, got a file; move it, or name another folder: l2t init FOLDER")
    found = shipped()
    new = [name for name in found if not (folder / name).exists()]
    for name in new:
        write_atomic(folder / name, found[name])
    kept = len(found) - len(new)
    print(f"{folder}: {count(len(new), 'file')} written" + (f", {kept} were there and stay" if kept else ""))
    if folder != SWEEPS:
        say(f"the files name each other as {SWEEPS}/FILE, from the working folder; correct that in {folder}")
    say(f"next: l2t plan {folder / QUICKSTART}")
    return 0


def run_quickstart() -> int:
    """Trains the quick start's source and its sweep, and writes its report; returns the exit code."""
    for name in (SOURCE, QUICKSTART):
        if not (SWEEPS / name).exists():
            write_atomic(SWEEPS / name, shipped()[name])
            say(f"{SWEEPS / name}: copied from the package")
    before = os.environ.get(THREADS)
    os.environ.setdefault(THREADS, "1")  # one thread is the fastest for so narrow a network
    code = pretrain.main([str(SWEEPS / SOURCE)])
    if before is None:
        del os.environ[THREADS]
    if code:
        return code
    code = sweep.main([str(SWEEPS / QUICKSTART)])
    return code if code > 1 else max(code, stats.main(["quickstart", "--out", "report/quickstart", "--attach"]))


def sweep_name(word: str) -> str:
    """Returns the name of a sweep that is named by its name or its file.

    Raises:
        InputError: if a file holds none.
    """
    path = Path(word)
    if path.suffix not in {".yaml", ".yml"}:
        return word
    from l2t_ray.sweepfile.yaml_lines import load_yaml

    top, problems = load_yaml(path)
    name = top.value.get("sweep") if isinstance(top.value, dict) else None
    if problems or name is None or not isinstance(name.value, str):
        raise InputError(problems or f"{path}: must have `sweep: NAME`, got none; name a sweep file")
    return name.value


def sweep_files() -> dict[Path, str]:
    """Returns the sweep files of the working folder and its `sweeps/`, with the sweep's name."""
    found = {}
    for path in sorted([*Path().glob("*.yaml"), *SWEEPS.glob("*.yaml")]):
        try:
            found[path] = sweep_name(str(path))
        except InputError:  # the file of a source network, or of something else
            continue
    return found
