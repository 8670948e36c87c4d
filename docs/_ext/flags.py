"""The directive `flags`: the flags of a command, as a list that its own parser gives."""

import argparse
from importlib import import_module

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx


class Flags(Directive):
    """`{flags} l2t_ray.sweep` lists what `python -m l2t_ray.sweep` accepts, `{flags} l2t:report` what `l2t report`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Returns the usage and a list of the arguments."""
        parser = _parser(*self.arguments[0].split(":"))
        rows = nodes.definition_list()
        for action in parser._actions:
            if action.help == argparse.SUPPRESS or action.dest == "help":
                continue
            names = action.option_strings or [action.metavar or action.dest]
            value = f" {_value(action)}" if action.option_strings and action.nargs != 0 else ""
            term = nodes.term("", "", nodes.literal("", ", ".join(map(str, names)) + value))
            meaning = (action.help or "").replace("%(default)s", str(action.default))
            rows += nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph("", meaning)))
        about = [nodes.paragraph("", parser.description)] if parser.description else []
        return [*about, rows]


def _parser(module: str, command: str = "") -> argparse.ArgumentParser:
    if module == "l2t":
        from l2t.command import _parser

        (commands,) = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
        return commands.choices[command]
    found = import_module(module)
    parser = argparse.ArgumentParser()
    found.configure(parser)
    return parser


def _value(action: argparse.Action) -> str:
    if action.choices:
        return "{" + ",".join(map(str, action.choices)) + "}"
    name = action.metavar or action.dest.upper()
    return name if isinstance(name, str) else " ".join(name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directive."""
    app.add_directive("flags", Flags)
    return {"parallel_read_safe": True}
