"""Completes the settings of a run by the trainer's type, and says where they break it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from l2t_ray.errors import suggest
from l2t_ray.sweepfile.blocks import Block, Choice
from l2t_ray.sweepfile.own_names import SETTINGS
from l2t_ray.sweepfile.settings import RULES, boolean_meant, shown
from l2t_ray.sweepfile.yaml_lines import Item
from l2t_ray.trainer.form import Form, FormError, Wrong
from l2t_ray.trainer.names import nested

MAPS = frozenset({"model_type", "model_attributes_type", "dataclass_type"})  # of pydantic's errors


def complete(form: Form, block: Block, chosen: Mapping[str, Choice], problems: list[str]) -> dict[str, Any] | None:
    """Returns the whole settings of one choice; None where it adds to the problems.

    Args:
        form: the trainer's settings, with types and defaults.
        block: of the grid.
        chosen: a choice for each setting that the block lists.
        problems: a line is added for each.
    """
    settings = {name.removeprefix(SETTINGS): choice.value for name, choice in chosen.items()}
    try:
        whole = form.complete(settings)
        problems += [line for line in _ambiguous(form, settings, chosen) if line not in problems]
        return whole
    except FormError as error:
        tree = _tree(block.place, {name.removeprefix(SETTINGS): choice.item for name, choice in chosen.items()})
        for wrong in error.wrong:
            if (line := _line(tree, wrong, form)) not in problems:
                problems.append(line)
    return None


def _ambiguous(form: Form, settings: Mapping[str, Any], chosen: Mapping[str, Choice]) -> Iterator[str]:
    """Yields a line for each plain `yes` or `no` where the trainer takes a text, and true and false as well."""
    for name, choice in chosen.items():
        for word in choice.item.words():
            try:
                form.complete({**settings, name.removeprefix(SETTINGS): choice.item.plain(word)})
            except FormError:
                continue  # the type says that it is a text
            quoted = f"'\"{word.value}\"'" if word.place.startswith("--") else f'"{word.value}"'  # in a shell
            remedy = f"{boolean_meant(word.value)}, or {quoted} for the text"
            yield f"{word.place}: {name} must be true, false or a text in quotes, got {word.value}; {remedy}"


def _tree(place: str, items: Mapping[str, Item]) -> Item:
    def built(values: Mapping[str, Any]) -> Item:
        children = {name: built(value) if isinstance(value, dict) else value for name, value in values.items()}
        return Item(children, place)

    return built(nested(items))


def _line(tree: Item, wrong: Wrong, form: Form) -> str:
    trail = tree.trail(wrong.path)
    target, name = trail[-1], ".".join(["settings", *(part for part in wrong.path if isinstance(part, str))])
    if wrong.kind == "missing":
        return f"{tree.place}: {name} must be given, in this block or in `run:`; the trainer asks for it; add it"
    if wrong.kind == "unknown":
        inner = name.removeprefix(SETTINGS)
        return f"{target.place}: {inner!r} must be a setting of the trainer; {suggest(inner, form.names)}"
    if wrong.kind == "raised":
        rule = "settings must be taken by the trainer's type"
        return f"{tree.place}: {rule}, got {wrong.message}; correct them, or its check"
    if wrong.kind == "record":
        return f"{target.place}: {name} {wrong.message}"
    context = wrong.context
    expected = context.get("expected") or context.get("expected_tags")  # 'a', 'b' or 'c'
    remedy = (wrong.kind == "bool_type" and boolean_meant(target.value)) or "correct it"
    if "error" in context:  # the user's own law
        rule = str(context["error"])
        rule = rule if rule.startswith("must ") else f"must be taken by the trainer's type: {rule}"
    elif expected is not None:
        known = [part.strip("' ") for part in re.split(", | or ", str(expected))]
        rule = f"must be {known[0]}" if len(known) == 1 else f"must be one of {', '.join(known)}"
        if isinstance(target.value, dict) and (tag := _tag(context)) in target.value:
            target, name = target.value[tag], f"{name}.{tag}"
        remedy = suggest(str(target.value), known)
    elif wrong.kind in MAPS:
        rule = "must be a map"
    elif wrong.kind in RULES:
        rule = f"must {RULES[wrong.kind].format(**context)}"
    else:
        rule = wrong.message.removeprefix("Value error, ").replace("Input should", "must", 1)
        rule = rule.replace("a valid array", "a list").replace("an object", "a map")
    return f"{target.place}: {name} {rule}, got {shown(target)}; {remedy}"


def _tag(context: Mapping[str, Any]) -> str:
    """The setting by which a union of types is told apart."""
    return str(context.get("discriminator", "")).strip("'")
