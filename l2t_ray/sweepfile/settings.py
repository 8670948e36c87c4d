"""The settings of a run and of the execution by their dotted names: their types, and their laws in words.

A sweep file's values are checked one by one, so that every mistake is told at its own line.
"""

import difflib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from l2t_ray import registry
from l2t_ray.config import Execution, Frozen, Run
from l2t_ray.sweepfile.yaml_lines import Item

SHOWN_CHARACTERS = 60
BROKEN: Any = object()  # in the place of a value that breaks a law
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)

_LAWS = {  # pydantic's errors in our words, after "must"
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


class SweepFile(Frozen):
    """A sweep file's outer form; `sweepfile.read_sweep` expands its blocks."""

    sweep: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = Field(
        description="the name: MLflow's experiment, and folders"
    )
    methods: tuple[str, ...] = Field((), description="Python files with methods of your own")
    run: dict[str, Any] = Field(default_factory=dict, description="settings of every block, unless it says otherwise")
    grid: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)] = Field(
        description="blocks: each is the product of its lists; `variant:` names its cells"
    )
    execution: Execution = Field(Execution(), description="how, never what")


@dataclass(frozen=True)
class Setting:
    """One value of a sweep file.

    Attributes:
        name: dotted (`transfer.beta`).
        adapter: its type.
        default: shown in remedies.
        required: whether it has to be given.
    """

    name: str
    adapter: TypeAdapter[Any]
    default: Any = None
    required: bool = False

    def read(self, item: Item, problems: list[str]) -> Any:
        """The value in the setting's type.

        Args:
            item: the value as it stands in the file.
            problems: a line is added for each law it breaks.

        Returns:
            The value, or BROKEN.
        """
        try:
            return self.adapter.validate_python(_tuples(item.plain()))
        except ValidationError as error:
            problems.extend(self._told(item, error))
            return BROKEN

    def _told(self, item: Item, error: ValidationError) -> Iterator[str]:
        found: dict[int, tuple[Item, int, list[str]]] = {}
        closest: list[str] = []
        for part in error.errors(include_url=False):
            trail = item.trail(part["loc"])
            context = part.get("ctx", {})
            if part["type"] == "literal_error":
                options = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
                context = {"expected": ", ".join(options) if len(options) == 1 else f"one of {', '.join(options)}"}
                closest = difflib.get_close_matches(str(trail[-1].value), options, 1)
            law = str(context.get("error", _LAWS.get(part["type"], part["msg"]))).removeprefix("must ")
            law = law.format(**context) if part["type"] in _LAWS else law
            found.setdefault(id(trail[-1]), (trail[-1], len(trail), []))[2].append(law)
            if "error" in context:  # our own validators say it best
                found[id(trail[-1])] = (trail[-1], len(trail), [law])
        deepest = max(depth for _, depth, _ in found.values())  # of a union, the branch that fits best
        for target, depth, laws in found.values():
            if depth == deepest:
                law = " or ".join(dict.fromkeys(laws)).replace(" or be ", " or ")
                remedy = f"did you mean {closest[0]}?" if closest else self._remedy(target, laws)
                yield f"{target.place}: {self.name} must {law}, got {shown(target)}; {remedy}"

    def _remedy(self, target: Item, laws: list[str]) -> str:
        if isinstance(target.value, str) and any("number" in law for law in laws):
            try:
                number = float(target.value)
            except ValueError:
                number = math.nan
            if math.isfinite(number):  # Python's numbers may have underscores, YAML's are texts then
                return f"write {target.value.replace('_', '')}" if "_" in target.value else "remove the quotes"
        if "be a text" in laws and isinstance(target.value, bool | int | float):
            return "quote it"
        if self.default is None:
            return "correct the value"
        return f"correct it, or leave it out for {json.dumps(self.default)}"


def shown(item: Item) -> str:
    """A value as messages show it.

    Args:
        item: the value.

    Returns:
        JSON, cut where it is long.
    """
    text = json.dumps(item.plain(), default=str)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(child) for child in value)
    if isinstance(value, dict):
        return {name: _tuples(child) for name, child in value.items()}
    return value


def _setting(name: str, field: FieldInfo) -> Setting:
    default = field.get_default(call_default_factory=False)
    kind: Any = field.annotation if field.alias else Annotated[field.annotation, field]  # an alias is its model's alone
    required = field.is_required()
    return Setting(name, TypeAdapter(kind, config=_STRICT), None if required else default, required)


def settings_of(model: type[BaseModel], prefix: str = "") -> dict[str, Setting]:
    """The settings of a model by their dotted names.

    Args:
        model: perhaps with sections, which are models too.
        prefix: of the names.

    Returns:
        All but `options`.
    """
    found: dict[str, Setting] = {}
    for attribute, field in model.model_fields.items():
        kind, name = field.annotation, field.alias or attribute
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= settings_of(kind, f"{prefix}{name}.")
        elif prefix + name != "options":
            found[prefix + name] = _setting(prefix + name, field)
    return found


RUN: Mapping[str, Setting] = settings_of(Run)  # all but `options:`
OPTION = Setting("options", TypeAdapter(registry.Scalar, config=_STRICT))  # each method has its own
EXECUTION: Mapping[str, Setting] = settings_of(Execution, "execution.")
NAME = _setting("sweep", SweepFile.model_fields["sweep"])
METHODS = _setting("methods", SweepFile.model_fields["methods"])
LABEL = _setting("variant", Run.model_fields["data"].annotation.model_fields["title"])  # type: ignore[union-attr]
SECTIONS = frozenset({name.partition(".")[0] for name in RUN if "." in name} | {"options"})
IN_CELLS = [name for name in RUN if not name.startswith("trace.")]  # a trace tells no runs apart
AMBIGUOUS = frozenset(
    last for last in {n.rpartition(".")[2] for n in IN_CELLS} if sum(n.rpartition(".")[2] == last for n in IN_CELLS) > 1
)


def short(name: str) -> str:
    """A setting's name as cells carry it.

    Args:
        name: dotted.

    Returns:
        Its last part, where no other setting has it.
    """
    last = name.rpartition(".")[2]
    return name if last in AMBIGUOUS else last


def full_name(key: str) -> str:
    """The dotted name behind what the command line gives.

    Args:
        key: a dotted name, also with `run.` before it, or the last part of one where no other setting has it.

    Returns:
        The dotted name; the key where there is none.
    """
    key = key.strip().removeprefix("run.")
    matching = [name for name in IN_CELLS if name.rpartition(".")[2] == key]
    return matching[0] if key not in RUN and len(matching) == 1 else key
