"""The settings of a run and of the execution by their dotted names: their types, and what each must be, in words.

A sweep file's values are checked one by one, so that every mistake is reported at its own line.
"""

import difflib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from l2t_ray import registry
from l2t_ray.config import Execution, Frozen, Positive, Run
from l2t_ray.config.sections import LOCAL, WRITTEN_OUT, local_path, written_out
from l2t_ray.errors import suggest
from l2t_ray.hubs import HUBS, PATTERN
from l2t_ray.sweepfile.yaml_lines import BOOLEANS, Item

SHOWN_CHARACTERS = 60
BROKEN: Any = object()  # stands for a value that breaks a rule
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)

RULES = {  # pydantic's errors in our words, after "must"
    "int_type": "be a whole number",
    "int_from_float": "be a whole number",
    "float_type": "be a number",
    "bool_type": "be true or false",
    "string_type": "be a text",
    "finite_number": "be a finite number",
    "tuple_type": "be a list",
    "dict_type": "be a map",
    "greater_than": "be > {gt:g}",
    "greater_than_equal": "be >= {ge:g}",
    "less_than": "be < {lt:.10g}",
    "less_than_equal": "be <= {le:g}",
    "literal_error": "be {expected}",
    "too_short": "have at least {min_length} entries",
    "too_long": "have at most {max_length} entries",
    "missing": "have one entry more",
    "string_too_short": "not be empty",
    "string_pattern_mismatch": "match {pattern}",
}

SPOKEN = {f"match {PATTERN}": f"be {', '.join(hub.form for hub in HUBS)}"}  # patterns that have plainer words


class MetricBlock(Frozen):
    """`metric:` of a sweep file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][\w.-]{0,99}$")] = Field(
        description="of the trainer's results, the one by which runs are compared"
    )
    lower_is_better: bool = Field(description="whether a lower value is the better one")
    margin: Positive = Field(
        1.0, description="the smallest difference that matters; must be given but for a ..._percent"
    )


class SweepFile(Frozen):
    """The outer form of a sweep file; `l2t_ray.sweepfile.read.read_sweep` expands its blocks."""

    sweep: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = Field(
        description="the name: MLflow's experiment, and folders"
    )
    trainer: str | dict[str, Any] | None = Field(None, description="a trainer of your own: a function, or a command")
    metric: dict[str, Any] | None = Field(None, description="with `trainer:`: its result that counts")
    method: str | tuple[str, ...] = Field((), description="with `trainer:`: the setting that is compared, or several")
    axis: str | None = Field(None, description="with `trainer:`: the setting with the part of the number of images")
    data: str | tuple[str, ...] = Field((), description="with `trainer:`: settings that tell data sets apart")
    methods: tuple[Annotated[str, AfterValidator(local_path)], ...] = Field(
        (), description="Python files with methods of your own"
    )
    run: dict[str, Any] = Field(default_factory=dict, description="settings of every block, unless it says otherwise")
    grid: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)] = Field(
        description="blocks: each is the product of its lists; `variant:` names its cells"
    )
    execution: Execution = Field(Execution(), description="how runs are trained; no part of their keys")


@dataclass(frozen=True)
class Setting:
    """One setting of a sweep file."""

    name: str  # dotted (`transfer.beta`)
    adapter: TypeAdapter[Any]  # checks its type
    default: Any = None  # offered in remedies
    required: bool = False  # whether it has to be given

    def read(self, item: Item, problems: list[str]) -> Any:
        """Returns a value in the setting's type, or BROKEN with a line in `problems` for each rule it breaks."""
        try:
            return self.adapter.validate_python(_tuples(item.plain()))
        except ValidationError as error:
            problems.extend(self._explain(item, error))
            return BROKEN

    def _explain(self, item: Item, error: ValidationError) -> Iterator[str]:
        broken: dict[int, tuple[Item, int, list[str]]] = {}
        closest: list[str] = []
        for part in error.errors(include_url=False):
            trail = item.trail(part["loc"])
            context = part.get("ctx", {})
            if part["type"] == "literal_error":
                options = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
                context = {"expected": ", ".join(options) if len(options) == 1 else f"one of {', '.join(options)}"}
                closest = difflib.get_close_matches(str(trail[-1].value), options, 1)
            rule = str(context.get("error", RULES.get(part["type"], part["msg"]))).removeprefix("must ")
            rule = rule.format(**context) if part["type"] in RULES else rule
            rule = SPOKEN.get(rule, rule)
            broken.setdefault(id(trail[-1]), (trail[-1], len(trail), []))[2].append(rule)
            if "error" in context:  # our own validators say it best
                broken[id(trail[-1])] = (trail[-1], len(trail), [rule])
        deepest = max(depth for _, depth, _ in broken.values())  # of a union, the branch that fits best
        for target, depth, rules in broken.values():
            if depth == deepest:
                rule = " or ".join(dict.fromkeys(rules)).replace(" or be ", " or ")
                remedy = f"did you mean {closest[0]}?" if closest else self._remedy(target, rules)
                yield f"{target.place}: {self.name} must {rule}, got {shown(target)}; {remedy}"

    def _remedy(self, target: Item, rules: list[str]) -> str:
        if isinstance(target.value, str) and any("number" in rule for rule in rules):
            try:
                number = float(target.value)
            except ValueError:
                number = math.nan
            if math.isfinite(number):  # 1_000 is a number to Python, and a text to YAML
                return f"write {target.value.replace('_', '')}" if "_" in target.value else "remove the quotes"
        if "be a text" in rules and isinstance(target.value, bool | int | float):
            return "quote it"
        if "be true or false" in rules and (meant := boolean_meant(target.value)):
            return meant
        if LOCAL in rules:
            return "copy it here, and write that path"
        if WRITTEN_OUT in rules:
            path = os.path.expanduser(str(target.value))  # noqa: PTH111  pathlib's raises where nobody knows it
            return f"write {'the whole path' if path == target.value else path}"
        if isinstance(target.value, str) and target.value.endswith("\n"):
            return "write it without > or |, which add the end of a line"
        if self.default is None:
            return "correct the value"
        return f"correct it, or leave it out for {json.dumps(self.default)}"


def boolean_meant(value: Any) -> str | None:
    """Returns the remedy for a text in the place of true or false; None where it is neither in other words."""
    text = str(value).lower()
    if text in {"true", "false"}:
        return "remove the quotes"
    return f"write {json.dumps(BOOLEANS[text])}" if text in BOOLEANS else None


def shown(item: Item) -> str:
    """Returns a value as messages show it: as JSON, cut after 60 characters."""
    text = json.dumps(item.plain(), default=str)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(child) for child in value)
    if isinstance(value, dict):
        return {name: _tuples(child) for name, child in value.items()}
    return value


def setting_of(name: str, field: FieldInfo) -> Setting:
    """Returns the setting that a field of a model describes."""
    default = field.get_default(call_default_factory=False)
    kind: Any = field.annotation if field.alias else Annotated[field.annotation, field]  # only a model applies an alias
    required = field.is_required()
    return Setting(name, TypeAdapter(kind, config=_STRICT), None if required else default, required)


def settings_of(model: type[BaseModel], prefix: str = "") -> dict[str, Setting]:
    """Returns a model's settings by their dotted names, those of its sections included; all but `options`."""
    settings: dict[str, Setting] = {}
    for attribute, field in model.model_fields.items():
        kind, name = field.annotation, field.alias or attribute
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            settings |= settings_of(kind, f"{prefix}{name}.")
        elif prefix + name != "options":
            settings[prefix + name] = setting_of(prefix + name, field)
    return settings


def read_map(
    items: Mapping[str, Item],
    settings: Mapping[str, Setting],
    section: str,
    problems: list[str],
    apart: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns a section's values, without the broken ones.

    Args:
        items: the values by their names in the section.
        settings: by dotted name, `SECTION.NAME`.
        section: its name.
        problems: a line is added for each unknown name, and for each rule that a value breaks.
        apart: further names that may stand there, which the caller reads.
    """
    values = {}
    for name, item in items.items():
        setting = settings.get(f"{section}.{name}")
        if setting is not None:
            if (value := setting.read(item, problems)) is not BROKEN:
                values[name] = value
        elif name not in apart:
            known = [*apart, *(dotted.partition(".")[2] for dotted in settings)]
            problems.append(f"{item.place}: {name!r} must be a setting of {section}; {suggest(name, known)}")
    return values


RUN: Mapping[str, Setting] = settings_of(Run)  # all but `options:`
OPTION = Setting("options", TypeAdapter(registry.Scalar, config=_STRICT))  # each method has its own
PATH = Setting("trainer", TypeAdapter(Annotated[str, AfterValidator(local_path)], config=_STRICT))  # a file of it
_EXECUTION = settings_of(Execution, "execution.")
_STORAGE = TypeAdapter(Annotated[str, Field(min_length=1), AfterValidator(written_out)], config=_STRICT)  # or s3://
EXECUTION: Mapping[str, Setting] = {
    **_EXECUTION,
    "execution.storage": replace(_EXECUTION["execution.storage"], adapter=_STORAGE),
}
NAME = setting_of("sweep", SweepFile.model_fields["sweep"])
METHODS = setting_of("methods", SweepFile.model_fields["methods"])
LABEL = setting_of("variant", Run.model_fields["data"].annotation.model_fields["title"])  # type: ignore[union-attr]
SECTIONS = frozenset({name.partition(".")[0] for name in RUN if "." in name} | {"options"})
# runs of one key may differ in what they keep
IN_CELLS = [
    name
    for name in RUN
    if not name.startswith("trace.") and name not in {"record.weights", "record.predictions", "training.recompute"}
]
FIRST = {"weights": "source.weights"}  # what the short name has meant before another setting ended in it
AMBIGUOUS = frozenset(
    last for last in {n.rpartition(".")[2] for n in IN_CELLS} if sum(n.rpartition(".")[2] == last for n in IN_CELLS) > 1
)


def short(name: str) -> str:
    """Returns a setting's name as cells carry it: its last part, where no other setting has the same."""
    last = name.rpartition(".")[2]
    return name if last in AMBIGUOUS and FIRST.get(last) != name else last


def full_name(key: str) -> str:
    """Returns the dotted name behind a name on the command line, or the name itself where it is unknown.

    Args:
        key: a dotted name, perhaps after `run.`, or its last part where no other setting has the same.
    """
    key = key.strip().removeprefix("run.")
    matching = [FIRST[key]] if key in FIRST else [name for name in IN_CELLS if name.rpartition(".")[2] == key]
    return matching[0] if key not in RUN and len(matching) == 1 else key
