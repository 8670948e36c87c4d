"""What a search may change: an interval or a list of values for each setting, every bound under that setting's law."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from l2t_ray import registry
from l2t_ray.config import like_default
from l2t_ray.errors import suggest
from l2t_ray.sweepfile.blocks import reads
from l2t_ray.sweepfile.settings import BROKEN, OPTION, RUN, Setting, full_name, shown
from l2t_ray.sweepfile.yaml_lines import Item

ENTRIES = ("low", "high", "log", "step")
FIXED = ("data", "method", "seed", "trace")  # what is compared, a study for each; a trace changes no result


@dataclass(frozen=True)
class Dimension:
    """One setting of a space.

    Attributes:
        name: dotted.
        place: of its name in the file.
        kind: of its values.
        low: the smallest, of an interval.
        high: the largest.
        log: whether it is drawn on a logarithmic scale.
        step: between values, or None.
        values: of a list, by the label that Optuna keeps: a text or a number as it is, anything else as JSON.
    """

    name: str
    place: str
    kind: Literal["float", "int", "list"]
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    values: Mapping[Any, Any] = field(default_factory=dict)

    def suggest(self, trial: Any) -> Any:
        """Asks Optuna.

        Args:
            trial: Optuna's, or Tune's proxy of one.

        Returns:
            The label or number that Optuna keeps.
        """
        if self.kind == "list":
            return trial.suggest_categorical(self.name, [*self.values])
        if self.kind == "int":
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def example(self, turn: int) -> Any:
        """One of the values, for a plan.

        Args:
            turn: 0 to the number of a list's values; every one comes.

        Returns:
            Of a list its label; of an interval its lower end.
        """
        if self.kind == "list":
            return [*self.values][turn % len(self.values)]
        return int(self.low) if self.kind == "int" else self.low

    def edges(self) -> list[Any]:
        """Every value of a list, both ends of an interval, as `example` gives them."""
        if self.kind == "list":
            return [*self.values]
        return [int(self.low), int(self.high)] if self.kind == "int" else [self.low, self.high]

    def value(self, label: Any) -> Any:
        """The setting behind what Optuna keeps.

        Args:
            label: of `suggest`.

        Returns:
            The setting's value.
        """
        return self.values[label] if self.kind == "list" else label

    def label(self, value: Any) -> Any:
        """The opposite of `value`.

        Args:
            value: of the setting.

        Returns:
            What Optuna would keep, or None where the value lies outside.
        """
        if self.kind == "list":
            return next((label for label, known in self.values.items() if known == value), None)
        inside = isinstance(value, int | float) and self.low <= value <= self.high
        n_steps = (value - self.low) / self.step if inside and self.step else 0.0
        on_grid = inside and abs(n_steps - round(n_steps)) < 1e-9
        return value if on_grid else None

    def __str__(self) -> str:
        if self.kind == "list":
            return f"{self.name} of {', '.join(str(label) for label in self.values)}"
        return f"{self.name} {self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


def read_space(item: Item, problems: list[str]) -> dict[str, Dimension]:
    """The `space:` of a sweep file's `search:`.

    Args:
        item: a map of settings, dotted or by their last part where that is enough.
        problems: a line is added for each.

    Returns:
        Dimensions by dotted name, without the broken ones.
    """
    if not isinstance(item.value, dict) or not item.value:
        law = "search.space must be a map of settings, at least one"
        problems.append(
            f"{item.place}: {law}, got {shown(item)}; write `training.lr: {{low: 0.001, high: 0.3, log: true}}`"
        )
        return {}
    found: dict[str, Dimension] = {}
    for key, child in item.value.items():
        name = full_name(key)
        law = f"{child.place}: search.space must name"
        if name.partition(".")[0] in FIXED:
            problems.append(
                f"{law} settings beside {', '.join(FIXED)}, got {key!r}; list it in `grid:`, for a study each"
            )
        elif name not in RUN and not name.startswith("options."):
            known = [known for known in RUN if known.partition(".")[0] not in FIXED]
            problems.append(f"{law} settings of a run, got {key!r}; {suggest(name, known)}")
        elif name in found:
            problems.append(f"{law} a setting once, got {name} twice; remove one")
        else:
            found[name] = _read(RUN.get(name, replace(OPTION, name=name)), child, problems)
    return {name: dimension for name, dimension in found.items() if dimension is not BROKEN}


def _read(setting: Setting, item: Item, problems: list[str]) -> Any:
    if isinstance(item.value, list):
        return _read_list(setting, item, item.value, problems)
    if not isinstance(item.value, dict) or not {"low", "high"} <= item.value.keys():
        law = f"search.space: {setting.name} must be a list of values, or have low and high"
        problems.append(f"{item.place}: {law}, got {shown(item)}; write {{low: A, high: B, log: true}}")
        return BROKEN
    unknown = [name for name in item.value if name not in ENTRIES]
    if unknown:
        place = item.value[unknown[0]].place
        problems.append(
            f"{place}: search.space: {unknown[0]!r} must be one of {', '.join(ENTRIES)}; {suggest(unknown[0], ENTRIES)}"
        )
        return BROKEN
    bounds = [setting.read(item.value[name], problems) for name in ("low", "high")]
    if BROKEN in bounds:
        return BROKEN
    plain = item.plain()
    log, step = plain.get("log", False), plain.get("step")
    kind: Literal["float", "int"] = "int" if all(type(bound) is int for bound in bounds) else "float"
    law = ""
    if not all(type(bound) in {int, float} for bound in bounds):
        law = "low and high must be numbers"
    elif bounds[0] >= bounds[1]:
        law = "low must be < high"
    elif not isinstance(log, bool):
        law = "log must be true or false"
    elif log and bounds[0] <= 0:
        law = "low must be > 0 with log: true"
    elif step is not None and (type(step) not in {int, float} or not 0 < step < math.inf or log):
        law = "step must be a number > 0, without log: true"
    elif kind == "int" and step is not None and type(step) is not int:
        law = "step must be a whole number"
    if law:
        problems.append(f"{item.place}: search.space: {setting.name}: {law}, got {shown(item)}; correct it")
        return BROKEN
    return Dimension(setting.name, item.place, kind, low=bounds[0], high=bounds[1], log=log, step=step)


def _read_list(setting: Setting, item: Item, children: list[Item], problems: list[str]) -> Any:
    read = [setting.read(child, problems) for child in children]
    if BROKEN in read:
        return BROKEN
    values = {_label(value): value for value in read}
    if len(values) < 2 or len(values) < len(read):
        law = f"search.space: {setting.name} must have at least two values, each once"
        problems.append(f"{item.place}: {law}, got {shown(item)}; correct the list")
        return BROKEN
    return Dimension(setting.name, item.place, "list", values=values)


def _label(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else json.dumps(value)


def of_method(space: Mapping[str, Dimension], method: registry.Described) -> Iterator[Dimension]:
    """What of a space a method reads, its options in the type of their defaults.

    Args:
        space: of the file.
        method: of a study.

    Yields:
        Dimensions.

    Raises:
        ValueError: if an option's values are of another type than its default.
    """
    for name, dimension in space.items():
        if not reads(method, name):
            continue
        section, _, option = name.partition(".")
        if section != "options":
            yield dimension
        elif dimension.kind == "list":
            typed = {label: like_default(value, method.options[option]) for label, value in dimension.values.items()}
            yield replace(dimension, values=typed)
        else:
            low, high = (like_default(bound, method.options[option]) for bound in (dimension.low, dimension.high))
            kind: Literal["float", "int"] = "float" if isinstance(low, float) else "int"
            yield replace(dimension, kind=kind, low=float(low), high=float(high))
