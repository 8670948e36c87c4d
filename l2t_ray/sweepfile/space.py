"""What a search may change: for each setting an interval or a list of values, which the setting's own rules check."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from l2t_ray import registry
from l2t_ray.config import like_default
from l2t_ray.errors import suggest
from l2t_ray.sweepfile.blocks import reads
from l2t_ray.sweepfile.settings import BROKEN, OPTION, RUN, Setting, boolean_meant, full_name, shown
from l2t_ray.sweepfile.yaml_lines import Item

ENTRIES = ("low", "high", "log", "step")
FIXED = ("data", "method", "seed", "trace")  # a study for each of these; a trace changes no result


@dataclass(frozen=True)
class Dimension:
    """One setting of a space."""

    name: str  # dotted
    place: str  # of its name in the file
    kind: Literal["float", "int", "list"]  # of its values
    low: float = 0.0  # the smallest, of an interval
    high: float = 0.0  # the largest
    log: bool = False  # whether it is drawn on a logarithmic scale
    step: float | None = None  # between values, or None
    # of a list, by the label that Optuna keeps: a text or a number as it is, anything else as JSON, as is what
    # Optuna would take for a value before it
    values: Mapping[Any, Any] = field(default_factory=dict)

    def suggest(self, trial: Any) -> Any:
        """Asks an Optuna trial, or Tune's stand-in for one, and returns the label or number that Optuna keeps."""
        if self.kind == "list":
            return trial.suggest_categorical(self.name, [*self.values])
        if self.kind == "int":
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def example(self, turn: int) -> Any:
        """Returns one of the values for a plan: of a list the label in turn, of an interval the lower end."""
        if self.kind == "list":
            return [*self.values][turn % len(self.values)]
        return int(self.low) if self.kind == "int" else self.low

    def edges(self) -> list[Any]:
        """Returns every label of a list, or both ends of an interval."""
        if self.kind == "list":
            return [*self.values]
        return [int(self.low), int(self.high)] if self.kind == "int" else [self.low, self.high]

    def value(self, label: Any) -> Any:
        """Returns the setting's value behind what Optuna keeps."""
        return self.values[label] if self.kind == "list" else label

    def label(self, value: Any) -> Any:
        """Returns what Optuna would keep for a setting's value; None where the value lies outside."""
        if self.kind == "list":
            return next((label for label, known in self.values.items() if _is_same(known, value)), None)
        kinds = {int} if self.kind == "int" else {int, float}
        inside = type(value) in kinds and self.low <= value <= self.high
        n_steps = (value - self.low) / self.step if inside and self.step else 0.0
        on_grid = inside and abs(n_steps - round(n_steps)) < 1e-9
        return (value if self.kind == "int" else float(value)) if on_grid else None

    def __str__(self) -> str:
        if self.kind == "list":
            return f"{self.name} of {', '.join(str(label) for label in self.values)}"
        return f"{self.name} {self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


def read_space(item: Item, problems: list[str]) -> dict[str, Dimension]:
    """Returns the dimensions of a search's `space:` by dotted name, without the broken ones.

    Args:
        item: a map of settings, dotted or by their last part where that is enough.
        problems: a line is added for each.
    """
    if not isinstance(item.value, dict) or not item.value:
        rule = "search.space must be a map of settings, at least one"
        problems.append(
            f"{item.place}: {rule}, got {shown(item)}; write `training.lr: {{low: 0.001, high: 0.3, log: true}}`"
        )
        return {}
    space: dict[str, Dimension] = {}
    for key, child in item.value.items():
        name = full_name(key)
        rule = f"{child.place}: search.space must name"
        if name.partition(".")[0] in FIXED:
            problems.append(
                f"{rule} settings beside {', '.join(FIXED)}, got {key!r}; list it in `grid:`, for a study each"
            )
        elif name not in RUN and not name.startswith("options."):
            known = [known for known in RUN if known.partition(".")[0] not in FIXED]
            problems.append(f"{rule} settings of a run, got {key!r}; {suggest(name, known)}")
        elif name in space:
            problems.append(f"{rule} a setting once, got {name} twice; remove one")
        else:
            space[name] = read_dimension(RUN.get(name, replace(OPTION, name=name)), child, problems)
    return {name: dimension for name, dimension in space.items() if dimension is not BROKEN}


def read_dimension(setting: Setting, item: Item, problems: list[str]) -> Any:
    """Returns the dimension of one setting; BROKEN where it adds to the problems.

    Args:
        setting: checks each value.
        item: an interval or a list.
        problems: a line is added for each broken law.
    """
    if isinstance(item.value, list):
        return _read_list(setting, item, item.value, problems)
    if not isinstance(item.value, dict) or not {"low", "high"} <= item.value.keys():
        rule = f"search.space: {setting.name} must be a list of values, or have low and high"
        problems.append(f"{item.place}: {rule}, got {shown(item)}; write {{low: A, high: B, log: true}}")
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
    rule, remedy = "", "correct it"
    if not all(type(bound) in {int, float} for bound in bounds):
        rule = "low and high must be numbers"
    elif bounds[0] >= bounds[1]:
        rule = "low must be < high"
    elif not isinstance(log, bool):
        rule, remedy = "log must be true or false", boolean_meant(log) or remedy
    elif log and bounds[0] <= 0:
        rule = "low must be > 0 with log: true"
    elif step is not None and (type(step) not in {int, float} or not 0 < step < math.inf or log):
        rule = "step must be a number > 0, without log: true"
    elif kind == "int" and step is not None and type(step) is not int:
        rule = "step must be a whole number"
    if rule:
        problems.append(f"{item.place}: search.space: {setting.name}: {rule}, got {shown(item)}; {remedy}")
        return BROKEN
    return Dimension(setting.name, item.place, kind, low=bounds[0], high=bounds[1], log=log, step=step)


def _read_list(setting: Setting, item: Item, children: list[Item], problems: list[str]) -> Any:
    read = [setting.read(child, problems) for child in children]
    if BROKEN in read:
        return BROKEN
    values: dict[Any, Any] = {}
    for value in read:
        label = value if isinstance(value, str | int | float) else json.dumps(value)
        while label in values and not any(_is_same(known, value) for known in values.values()):
            label = json.dumps(label)
        values[label] = value
    if len(values) < 2 or len(values) < len(read):
        rule = f"search.space: {setting.name} must have at least two values, each once"
        problems.append(f"{item.place}: {rule}, got {shown(item)}; correct the list")
        return BROKEN
    return Dimension(setting.name, item.place, "list", values=values)


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are one setting: 1 and 1.0 are, 1 and true are not."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def of_method(space: Mapping[str, Dimension], method: registry.Described) -> Iterator[Dimension]:
    """Yields the dimensions of a space that a method reads, its options in the type of their defaults.

    Raises:
        ValueError: if an option's values have another type than its default.
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
