"""Checks a command that trains: what it names must be there, and what varies must be named."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from l2t_ray.errors import suggest
from l2t_ray.sweepfile.blocks import Block
from l2t_ray.sweepfile.own_names import SETTINGS
from l2t_ray.sweepfile.yaml_lines import Item
from l2t_ray.trainer.command import search_path
from l2t_ray.trainer.spec import GIVEN, PLACEHOLDER, RESULT, Spec, is_within


def command_problems(spec: Spec, item: Item, blocks: Sequence[Block]) -> Iterator[str]:
    """Yields a line for each mistake of a command: its program, the settings that it names, its file of results.

    Args:
        spec: with a command.
        item: `trainer:` of the sweep file.
        blocks: the settings that there are.
    """
    place = item.trail(["command"])[-1].place
    program = spec.words[0] if spec.words else ""
    if shutil.which(program, path=search_path()) is None:
        rule, remedy = "trainer.command must begin with a program that is there", "install it, or correct the path"
        if Path(program).is_file():
            rule, remedy = "trainer.command must begin with a program", f"write e.g. `python {program}`, or chmod +x it"
        elif "=" in program:
            remedy = f"write `env {program}`"
        yield f"{place}: {rule}, got {program!r}; {remedy}"
    named = spec.placeholders()
    every = [(name, found[0]) for block in blocks for name, found in block.choices.items() if found]
    settings = {name.removeprefix(SETTINGS): choice for name, choice in every}
    for name in sorted(named - {*settings, *GIVEN}):
        remedy = suggest(name, [*settings, *GIVEN])
        yield f"{place}: {{{name}}} in trainer.command must be a setting, or {', '.join(GIVEN)}; {remedy}"
    for name in sorted(named):
        if (wrong := f"${{{name}}}") in (spec.command or ""):
            yield f"{place}: trainer.command must name a setting as {{{name}}}, got {wrong}; remove the $"
    yield from _result_problems(spec.result or "", item.trail(["result"])[-1].place, [*settings, *GIVEN])
    if "seed" not in named:
        yield f"{place}: trainer.command must hold {{seed}}, or all seeds would be one run; add e.g. --seed {{seed}}"
    for name, choice in settings.items():
        if name in GIVEN:
            yield f"{choice.item.place}: settings.{name} must have another name: {{{name}}} is given; rename it"
        elif name not in named:
            rule = f"settings.{name} must stand in trainer.command as {{{name}}}, or it would change nothing"
            yield f"{choice.item.place}: {rule}; add it, or remove the setting"


def _result_problems(result: str, place: str, known: Sequence[str]) -> Iterator[str]:
    if not is_within(result):
        rule = "trainer.result must be a file in the folder of its run, because runs share any other"
        yield f"{place}: {rule}, got {result!r}; have the command write to e.g. {RESULT}"
    for name in sorted({*PLACEHOLDER.findall(result)} - {*known}):
        rule = f"{{{name}}} in trainer.result must be a setting, or {', '.join(GIVEN)}"
        yield f"{place}: {rule}; {suggest(name, known)}"
