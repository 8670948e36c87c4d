"""Writes the sweep file of a search's result: each cell at its best settings, with the grid's own seeds."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from l2t_ray import registry
from l2t_ray.config import Run
from l2t_ray.errors import InputError
from l2t_ray.files import write_atomic
from l2t_ray.run import AnyRun
from l2t_ray.sweepfile.blocks import MAX_NAME_CHARACTERS, reads
from l2t_ray.sweepfile.cells import Extras
from l2t_ray.sweepfile.search import SUFFIX, VARIANT
from l2t_ray.sweepfile.yaml_lines import Dumper
from l2t_ray.trainer.names import nested
from l2t_ray.trainer.run import OwnRun

if TYPE_CHECKING:
    from l2t_ray.sweepfile.own_search import OwnStudy
    from l2t_ray.sweepfile.read import Sweep
    from l2t_ray.sweepfile.search import Study

MARK = "# Written by the search of "
DIGESTS = ("source.sha256", "data.sha256")
SIGNS = " _.+=()-"  # may stand in a `variant:`, beside letters and digits


@dataclass(frozen=True)
class Choice:
    """A trial that was chosen."""

    study: "Study | OwnStudy"  # the cell's
    labels: Mapping[str, Any]  # its settings, as Optuna keeps them
    result: str  # what it reached, in words
    name: str = VARIANT  # of the variant


def check_best_file(path: Path) -> None:
    """Refuses, before a search starts, a file that its result may not replace.

    Raises:
        InputError: if a file is there that no search has written, or that cannot be read.
    """
    try:
        with path.open() as stream:
            line = stream.readline()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: search.best must be a file that can be written, got {error}; name another") from None
    if not line.startswith(MARK):
        rule = "search.best must be free, or written by a search"
        raise InputError(f"{path}: {rule}, got a file of yours; move it, or set search.best")


def write_best(sweep: "Sweep", choices: Iterable[Choice], path: Path, *, untuned: bool) -> None:
    """Writes the final sweep's file, which reads back as exactly these runs.

    Args:
        sweep: with the search.
        choices: the best of every study.
        path: of the file.
        untuned: whether each cell's own settings stand there too.
    """
    from l2t_ray.sweepfile.read import read_sweep

    blocks: list[tuple[str, list[dict[str, Any]]]] = []
    expected: set[str] = set()
    own: set[str] = set()
    for choice in choices:
        study = choice.study
        variant = _label("".join(study.name.split("/", 3)[3:]))
        if untuned and study.name not in own:
            own.add(study.name)
            blocks.append((f"{study.name}: its own settings", _blocks(study, study.run, variant)))
            expected |= {run.key for run in study.run.with_seeds(study.seeds)}
        run = study.final_run(choice.labels)
        if untuned and run.key == study.run.key:
            continue  # the best settings are its own, whose runs are in the file already
        blocks.append((f"{study.name}: {choice.result}", _blocks(study, run, f"{variant} {choice.name}".strip())))
        expected |= {run.key for run in run.with_seeds(study.seeds)}
    head: dict[str, Any] = {"sweep": f"{sweep.name}{SUFFIX}", **_own_head(sweep)}
    if sweep.methods:
        head["methods"] = [str(file) for file in sweep.methods]
    text = f"{MARK}{sweep.path}; launching that again may write it anew.\n{_dump(head)}grid:\n"
    for comment, parts in blocks:
        text += f"  # {comment}\n"
        for block in parts:
            lines = _dump(block).splitlines()
            text += f"  - {lines[0]}\n" + "".join(f"    {line}\n" for line in lines[1:])
    execution = sweep.execution.model_dump(mode="json", exclude_defaults=True)
    text += _dump({"execution": execution}) if execution else ""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_atomic(part, text.encode())
        assert set(read_sweep(part).runs) == expected, "the file reads back as what was written"
    finally:
        part.unlink(missing_ok=True)
    write_atomic(path, text.encode())


def _own_head(sweep: "Sweep") -> dict[str, Any]:
    """What names the user's own trainer, and the parts of its settings."""
    if sweep.trainer is None or sweep.search is None:
        return {}
    given = sweep.trainer.model_dump(mode="json", exclude_defaults=True, exclude={"metric", "digests"})
    trainer = given["function"] if given.keys() == {"function"} else given
    own = sweep.search.own
    parts = {"method": [*own.names.method], "axis": own.names.axis, "data": [*own.names.data]}
    return {
        "trainer": trainer,
        "metric": asdict(sweep.metric),
        **{name: value for name, value in parts.items() if value or name == "data"},
    }


def _own_block(study: "OwnStudy", run: OwnRun, variant: str) -> dict[str, Any]:
    """Returns all settings of a run, nested as in a sweep file; a list that is one value in another list."""
    values = {
        name: [value] if isinstance(value, list) and not study.form.takes_list(name) else value
        for name, value in run.settings.items()
    }
    block = {"settings": nested(values), "seed": _seeds([*study.seeds])}
    return {**block, "variant": variant} if variant else block


def _blocks(study: Any, run: AnyRun, variant: str) -> list[dict[str, Any]]:
    """Returns a block for each group of seeds whose runs keep the same."""
    if not isinstance(run, Run):
        assert isinstance(run, OwnRun)
        return [_own_block(study, run, variant)]
    seeds: Mapping[int, Extras] = study.seeds
    groups: dict[Extras, list[int]] = {}
    for seed, extras in seeds.items():
        groups.setdefault(extras, []).append(seed)
    return [_block(run.model_copy(update=extras.asked_of(run)), group, variant) for extras, group in groups.items()]


def _block(run: Run, seeds: Sequence[int], variant: str) -> dict[str, Any]:
    """Returns the settings that the method reads and that are not defaults, nested as in a sweep file."""
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
    block["seed"] = _seeds(seeds)
    return {**block, "variant": variant} if variant else block


def _seeds(seeds: Sequence[int]) -> Any:
    first, last = min(seeds), max(seeds)
    is_range = len(seeds) > 1 and sorted(seeds) == [*range(first, last + 1)]
    return {"from": first, "to": last} if is_range else [*seeds]


def _label(name: str) -> str:
    """Returns a `variant:` from what follows the method in a cell's name, which may hold brackets or be too long."""
    text = name.replace(",", " ").replace("[", "(").replace("]", ")")
    label = "".join(sign if sign.isalpha() or sign.isdecimal() or sign in SIGNS else "_" for sign in text)
    if label == text and len(label) <= MAX_NAME_CHARACTERS:
        return label
    return f"{label[:MAX_NAME_CHARACTERS]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _dump(values: Mapping[str, Any]) -> str:
    parts = [
        yaml.dump(
            {name: value},
            Dumper=Dumper,
            sort_keys=False,
            default_flow_style=None if isinstance(value, dict | list) else False,
            width=110,
            allow_unicode=True,
        )
        for name, value in values.items()
    ]
    return "".join(parts)
