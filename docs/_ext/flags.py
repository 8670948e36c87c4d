"""The directive `flags`: the flags of a command, as a list that its own parser gives."""

import argparse
from importlib import import_module

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx


class Flags(Directive):
    """`{flags} l2t_ray.sweep` lists what `python -m l2t_ray.sweep` accepts."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Returns the usage and a list of the arguments."""
        parser: argparse.ArgumentParser = import_module(self.arguments[0])._parser()
        rows = nodes.definition_list()
        for action in parser._actions:
            if action.help == argparse.SUPPRESS or action.dest == "help":
                continue
            names = action.option_strings or [action.metavar or action.dest]
            value = f" {_value(action)}" if action.option_strings and action.nargs != 0 else ""
            term = nodes.term("", "", nodes.literal("", ", ".join(map(str, names)) + value))
            meaning = (action.help or "").replace("%(default)s", str(action.default))
            rows += nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph("", meaning)))
        return [nodes.paragraph("", parser.description or ""), rows]


def _value(action: argparse.Action) -> str:
    if action.choices:
        return "{" + ",".join(map(str, action.choices)) + "}"
    name = action.metavar or action.dest.upper()
    return name if isinstance(name, str) else " ".join(name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directive."""
    app.add_directive("flags", Flags)
    return {"parallel_read_safe": True}
