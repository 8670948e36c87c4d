"""The sweep file that a search writes: each cell at its best settings, with the grid's own seeds, ready to run."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from l2t_ray import registry
from l2t_ray.blocks import reads
from l2t_ray.config import Run
from l2t_ray.errors import InputError
from l2t_ray.files import write_atomic
from l2t_ray.search_block import SUFFIX, VARIANT

if TYPE_CHECKING:
    from l2t_ray.search_block import Study
    from l2t_ray.sweepfile import Sweep

MARK = "# Written by the search of "
DIGESTS = ("source.sha256", "data.sha256")


@dataclass(frozen=True)
class Choice:
    """A trial that was chosen.

    Attributes:
        study: the cell's.
        labels: its settings, as Optuna keeps them.
        told: what it reached, in words.
        name: of the variant.
    """

    study: "Study"
    labels: Mapping[str, Any]
    told: str
    name: str = VARIANT


def check_best_file(path: Path) -> None:
    """Before a search: may its result be written there?

    Args:
        path: of the sweep file to write.

    Raises:
        InputError: if another file is there.
    """
    try:
        with path.open() as stream:
            line = stream.readline()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: search.best must be a file that can be written, got {error}; name another") from None
    if not line.startswith(MARK):
        law = "search.best must be free, or written by a search"
        raise InputError(f"{path}: {law}, got a file of yours; move it, or set search.best")


def write_best(sweep: "Sweep", choices: Iterable[Choice], path: Path, *, untuned: bool) -> None:
    """Writes the final sweep's file, which reads back as exactly these runs.

    Args:
        sweep: with the search.
        choices: the best of every study.
        path: of the file.
        untuned: whether each cell's own settings stand there too.
    """
    from l2t_ray.sweepfile import read_sweep

    blocks: list[tuple[str, dict[str, Any]]] = []
    expected: set[str] = set()
    own: set[str] = set()
    for choice in choices:
        study = choice.study
        _, _, _, *variant = study.name.split("/", 3)
        variant = [part for name in variant for part in name.split(",")]
        if untuned and study.name not in own:
            own.add(study.name)
            blocks.append((f"{study.name}: its own settings", _block(study.run, study.seeds, " ".join(variant))))
            expected |= {run.key for run in study.run.with_seeds(study.seeds)}
        run = study.final_run(choice.labels)
        if untuned and run.key == study.run.key:
            continue  # nothing was better than its own settings: these runs stand there already
        blocks.append((f"{study.name}: {choice.told}", _block(run, study.seeds, " ".join([*variant, choice.name]))))
        expected |= {run.key for run in run.with_seeds(study.seeds)}
    head: dict[str, Any] = {"sweep": f"{sweep.name}{SUFFIX}"}
    if sweep.methods:
        head["methods"] = [str(file) for file in sweep.methods]
    text = f"{MARK}{sweep.path}; launching that again may write it anew.\n{_dump(head)}grid:\n"
    for comment, block in blocks:
        lines = _dump(block).splitlines()
        text += f"  # {comment}\n  - {lines[0]}\n" + "".join(f"    {line}\n" for line in lines[1:])
    execution = sweep.execution.model_dump(mode="json", exclude_defaults=True)
    text += _dump({"execution": execution}) if execution else ""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_atomic(part, text.encode())
        assert set(read_sweep(part).runs) == expected, "the file reads back as what was written"
    finally:
        part.unlink(missing_ok=True)
    write_atomic(path, text.encode())


def _block(run: Run, seeds: tuple[int, ...], variant: str) -> dict[str, Any]:
    """Every setting that is not a default and that the method reads, nested as in a sweep file."""
    method = registry.METHODS[run.method]
    block: dict[str, Any] = {}
    for section, values in run.model_dump(mode="json", exclude_defaults=True, by_alias=True).items():
        if not isinstance(values, dict):
            block[section] = values
            continue
        kept = {name: value for name, value in values.items() if reads(method, f"{section}.{name}")}
        kept = {name: value for name, value in kept.items() if f"{section}.{name}" not in DIGESTS}
        if kept:
            block[section] = kept
    first, last = min(seeds), max(seeds)
    is_range = len(seeds) > 1 and sorted(seeds) == [*range(first, last + 1)]
    block["seed"] = {"from": first, "to": last} if is_range else [*seeds]
    return {**block, "variant": variant} if variant else block


def _dump(values: Mapping[str, Any]) -> str:
    parts = [
        yaml.safe_dump(
            {name: value},
            sort_keys=False,
            default_flow_style=None if isinstance(value, dict | list) else False,
            width=110,
            allow_unicode=True,
        )
        for name, value in values.items()
    ]
    return "".join(parts)
