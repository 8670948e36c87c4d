"""The names of the cells of a trainer of the user's own.

A cell is called data/axis/method[/variant] as those of the built-in trainer: the setting that `method:` names is what
is compared, the one of `axis:` has the part of the number of images (`-` without one), and all other settings that
vary in the grid are the data.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2t_ray.errors import suggest
from l2t_ray.sweepfile.blocks import Block, Choice, brief
from l2t_ray.sweepfile.cells import Cell
from l2t_ray.sweepfile.settings import shown
from l2t_ray.sweepfile.yaml_lines import Item
from l2t_ray.trainer.run import NO_AXIS, OwnRun
from l2t_ray.trainer.spec import Spec

SETTINGS = "settings."
Asked = tuple[tuple[str, ...], Item | None]  # names of settings, and where they stand
Expanded = tuple[Block, Mapping[str, Choice], OwnRun]


@dataclass(frozen=True)
class Factors:
    """What varies in the grid: titles of the report's columns; the axis is empty where there is none."""

    data: str
    axis: str
    method: str


class Names:
    """The parts of the cells' names."""

    def __init__(
        self,
        path: Path,
        parts: Mapping[str, Item],
        spec: Spec,
        expanded: Sequence[Expanded],
        blocks: Sequence[Block],
        asked: Mapping[str, Asked],
        problems: list[str],
    ) -> None:
        (self.method, method_item), (axes, axis_item) = asked["method"], asked["axis"]
        data, data_item = asked["data"]
        self.axis = axes[0] if axes else ""
        known = [*dict.fromkeys(name for _, _, run in expanded for name in run.settings)]
        for part, (names, item) in asked.items():
            if item is not None and part == "axis" and len(names) != 1:
                problems.append(
                    f"{item.place}: axis must name one setting, got {shown(item)}; write axis: settings.NAME"
                )
            for name in names:
                if item is not None and name not in known:
                    rule = f"{item.place}: {part} must name a setting of the grid"
                    problems.append(f"{rule}, got {name!r}; {suggest(name, known)}")
        twice = [name for name in (*self.method, *data) if name in {*axes, *({*data} & {*self.method})}]
        if twice and (item := axis_item or data_item) is not None:
            problems.append(
                f"{item.place}: a setting must have one part of method, axis and data, got {twice[0]} twice"
            )
        self._has_variants = any(block.variant for block in blocks)
        varying = [name for name in known if len({repr(run.settings.get(name)) for _, _, run in expanded}) > 1]
        if self._has_variants and not method_item:  # blocks differ as their names say; lists within them are factors
            listed = {name.removeprefix(SETTINGS) for block in blocks for name in block.listed}
            varying = [name for name in varying if name in listed]
        free = [name for name in varying if name != self.axis and name not in data]
        self._is_named = self._has_variants and not method_item
        if not method_item and not self._is_named:
            if len(free) > 1:
                place = parts["grid"].place if "grid" in parts else f"{path}:1"
                rule = f"method must say which is compared where several settings vary, got {', '.join(free)}"
                problems.append(f"{place}: {rule}; add e.g. `method: settings.{free[0]}`, a list for several together")
            self.method = tuple(free[:1])
        self.data = list(data) if data_item else [name for name in free if name not in self.method]
        self._trainer = spec.name
        method = "variant" if self._is_named else ", ".join(self.method) or "trainer"
        self.factors = Factors(", ".join(self.data) or "trainer", self.axis, method)

    def cell(self, block: Block, chosen: Mapping[str, Choice], run: OwnRun) -> Cell:
        """The cell of a choice, with its seeds."""
        data = label(run, self.data) or self._trainer
        axis = _text(run.settings.get(self.axis)) if self.axis else NO_AXIS
        method = (block.variant if self._is_named else label(run, self.method)) or self._trainer
        parts = [data, axis, method, *([block.variant] if block.variant and not self._is_named else [])]
        seeds = dict.fromkeys(seed for part in block.seeds for seed in part)
        return Cell("/".join(parts), run, block.place, dict.fromkeys(seeds))


def label(run: OwnRun, names: Iterable[str]) -> str:
    """The values of settings: a single text as it is, else NAME=VALUE."""
    names = [*names]
    values = [run.settings.get(name) for name in names]
    if len(names) == 1 and isinstance(values[0], str):
        return _text(values[0])
    return ",".join(f"{_short(name)}={_text(value)}" for name, value in zip(names, values, strict=True))


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _text(value: Any) -> str:
    return brief(value) or "_"
