"""The parser of every command: its help fits a terminal of 24 lines with 80 columns, and ends with an example."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from l2t_ray.errors import exit_code, suggest


class Parser(argparse.ArgumentParser):
    """A parser with a usage of one line, all arguments in one list, and an example.

    Args:
        form: what follows the command in the usage: `FILE [options]`.
        example: the command with arguments that are worth a try.
        more: for `argparse.ArgumentParser`.
    """

    def __init__(self, *, form: str = "[options]", example: str = "", **more: Any) -> None:
        super().__init__(
            usage=f"%(prog)s {form}",
            formatter_class=_Lines,
            epilog=f"example: {example}" if example else None,
            **more,
        )
        self._optionals.title = "arguments"
        self._positionals = self._optionals  # one list instead of two

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if "" in arg_strings and action.nargs != argparse.PARSER:
            raise argparse.ArgumentError(action, "must not be empty; is a variable of the shell not set?")
        return super()._get_values(action, arg_strings)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            remedy = suggest(str(value), map(str, action.choices))
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}; {remedy}")


class _Lines(argparse.RawDescriptionHelpFormatter):
    """Keeps the example in one piece, and lists subcommands without a line of their names."""

    def _format_action(self, action: argparse.Action) -> str:
        if isinstance(action, argparse._SubParsersAction):
            return "".join(self._format_action(part) for part in action._get_subactions())
        return super()._format_action(action)


def local(text: str) -> Path:
    """Returns a path from an argument; the `type` of those that are files or folders.

    Raises:
        argparse.ArgumentTypeError: for an address, of which `Path` would make a folder `s3:` here.
    """
    if "://" in text:
        raise argparse.ArgumentTypeError(f"must be on this machine, got {text!r}")
    return Path(text)


def command(
    configure: Callable[[argparse.ArgumentParser], None], parser: Parser, argv: Sequence[str] | None = None
) -> int:
    """Runs a command of its own: `python -m ...`.

    Args:
        configure: adds the arguments to a parser, and as the default `run` the function that gets the parsed ones.
        parser: without arguments.
        argv: by default the process' own.

    Returns:
        The exit code.
    """
    configure(parser)
    return exit_code(lambda: parsed(parser, argv))


def parsed(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parses the arguments and runs what they ask for; returns the exit code."""
    arguments = parser.parse_args(argv)
    code: int = arguments.run(arguments)
    return code
