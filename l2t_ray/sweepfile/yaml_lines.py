"""Reads YAML so that every value knows its line; no code runs, no key may repeat, and the size is bounded.

Plain scalars follow YAML 1.2's core schema, as editors and JSON schemas do: 1e-4 is a number, `no` is a text; an
item knows that it is such a word. Every key of a mapping is a text, so that a class may be called 0.
"""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from l2t_ray.errors import InputError

MAX_BYTES = 1 << 20
MAX_VALUES = 100_000  # stops a file whose nested aliases would multiply one value without end
BOOLEANS = {"yes": True, "on": True, "no": False, "off": False}  # of YAML 1.1, in any case

Scalar: TypeAlias = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Item:
    """A value and its place."""

    value: "Scalar | list[Item] | dict[str, Item]"  # a scalar, a list of items, or a dictionary of them
    place: str  # `FILE:LINE`, or the argument of the command line; an entry's line is its key's
    is_word: bool = False  # one of `BOOLEANS` without quotes

    def plain(self, boolean: "Item | None" = None) -> Any:
        """Returns the value without places, as scalars in lists and dictionaries.

        Args:
            boolean: one of `words`, taken for true or false.
        """
        if isinstance(self.value, dict):
            return {name: item.plain(boolean) for name, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain(boolean) for item in self.value]
        return BOOLEANS[str(self.value).lower()] if self is boolean else self.value

    def words(self) -> "Iterator[Item]":
        """Yields every `yes`, `no`, `on` and `off` without quotes that the value is or holds."""
        if self.is_word:
            yield self
        if isinstance(self.value, dict | list):
            for child in self.value.values() if isinstance(self.value, dict) else self.value:
                yield from child.words()

    def trail(self, path: "Iterable[int | str]") -> "list[Item]":
        """Returns the items along a path of keys and indices, this one first; a step that leads nowhere is skipped."""
        items = [self]
        for step in path:
            within = items[-1].value
            if isinstance(within, dict) and step in within:
                items.append(within[str(step)])
            elif isinstance(within, list) and isinstance(step, int) and step < len(within):
                items.append(within[step])
        return items

    def with_value(self, path: "Sequence[str]", value: "Item") -> "Item":
        """Returns a copy with the value at the end of a path of keys; maps that are missing on the way are added."""
        children = self.value if isinstance(self.value, dict) else {}
        child = value
        if len(path) > 1:
            child = children.get(path[0], Item({}, value.place)).with_value(path[1:], value)
        return Item({**children, path[0]: child}, self.place)


class _Loader(yaml.SafeLoader):
    """Composes nodes; YAML 1.2's core schema replaces YAML 1.1's resolvers (yes, 010, 1:30, dates)."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (yaml's own attribute)


class Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or YAML 1.2 would read as a number, so that it reads back as a text."""


_TAG = "tag:yaml.org,2002:"
_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u202f\u205f\u3000\ufeff"
# before the first letter of a line, after `:`, `-`, `,` or an opening bracket, or before a colon; not in a comment
_ODD_SPACE = re.compile(rf"^[^#'\"]*?(?:^ *|[:,\-\[{{] *)[{_SPACES}]|^[^#'\"]*?[{_SPACES}] *:(?: |$)")
_PRINTABLE = "a text must have no control characters and no half of a surrogate pair"
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")  # unfit for paths and terminals
_CORE = {
    "null": (r"~|null|Null|NULL|", [*"~nN", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        [*"-+.0123456789"],
    ),
}


for _name, (_pattern, _first) in _CORE.items():
    for _class in (_Loader, Dumper):
        _class.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _first)


def load_yaml(path: Path) -> tuple[Item, list[str]]:
    """Reads a YAML file.

    Args:
        path: of one document in UTF-8, at most 1 MB.

    Returns:
        The document, and a line for each problem that leaves the rest readable (a repeated key, an unknown tag).

    Raises:
        InputError: if there is no such file, or it is no YAML, too large, or nested too deeply.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        rule = f"{path}: must be a file that can be read, got {error.strerror!r}"
        raise InputError(f"{rule}; {_other_file(path)}") from error
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: must have at most {MAX_BYTES} bytes, got more; write seeds as {{from: 0, to: 29}}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}:{line}: must be UTF-8, got byte {content[error.start]:#x}; save it as UTF-8"
        ) from error
    _refuse_odd_spaces(text, str(path))
    return parse_yaml(text, str(path))


def _other_file(path: Path) -> str:
    """What to do about a file that is not there: name the one that was probably meant."""
    files = [file for folder in (path.parent, Path("sweeps")) for file in sorted(folder.glob("*.y*ml"))]
    by_stem = {file.stem: file for file in reversed(files)}
    close = difflib.get_close_matches(path.stem, by_stem, 1) if not path.exists() else []
    if not files:
        return "correct the path, or copy the shipped files: l2t init"
    return f"did you mean {by_stem[close[0]]}?" if close else "correct the path"


def _refuse_odd_spaces(text: str, source: str) -> None:
    """YAML takes a no-break space for a letter, and then reports another line."""
    for number, line in enumerate(text.splitlines(), 1):
        if match := _ODD_SPACE.search(line):
            space = next(letter for letter in match.group() if letter in _SPACES)
            found = f"got {unicodedata.name(space, 'a format character').lower()} (U+{ord(space):04X})"
            place = f"{source}:{number}: spaces between names and values must be plain ones"
            raise InputError(f"{place}, {found} in column {line.index(space) + 1}; replace it")


def parse_yaml(text: str, source: str, place: str | None = None) -> tuple[Item, list[str]]:
    """Reads a YAML text.

    Args:
        text: one document; an empty one is null.
        source: the file's name, for places `SOURCE:LINE`.
        place: given to every item instead, such as an argument of the command line.

    Returns:
        The document, and a line for each problem that leaves the rest readable.

    Raises:
        InputError: if it is no YAML, too large, or nested too deeply.
    """
    problems: list[str] = []
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return Item(None, place or f"{source}:1"), problems
            build = _Builder(loader, source, place, problems)
            return build(node, node), problems
        finally:
            loader.dispose()
    except RecursionError:
        raise InputError(f"{place or source}: must be nested less deeply, or an alias contains itself") from None
    except yaml.reader.ReaderError as error:
        where = place or f"{source}:{text.count(chr(10), 0, error.position) + 1}"
        raise InputError(f"{where}: {_PRINTABLE}, got {chr(error.character)!a}; remove it") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = place or (f"{source}:{mark.line + 1}" if mark else source)
        parts = [str(part) for part in (getattr(error, "context", ""), getattr(error, "problem", "")) if part]
        reason = " ".join(parts or str(error).split())
        raise InputError(f"{where}: must be YAML, got: {reason}; correct the line, or quote the text") from None


class _Builder:
    """Turns nodes into items, at most `MAX_VALUES` of them."""

    def __init__(self, loader: _Loader, source: str, place: str | None, problems: list[str]) -> None:
        self.loader, self.source, self.place, self.problems = loader, source, place, problems
        self.n_values = 0

    def __call__(self, node: yaml.Node, key: yaml.Node) -> Item:
        self.n_values += 1
        place = self._place(key)
        if self.n_values > MAX_VALUES:
            raise InputError(f"{place}: must have at most {MAX_VALUES} values, aliases written out; use fewer aliases")
        if not isinstance(node, yaml.ScalarNode) and node.tag not in {_TAG + "map", _TAG + "seq"}:
            self._refuse(node, "a list or a mapping")
        if isinstance(node, yaml.MappingNode):
            return Item(dict(self._entries(node)), place)
        if isinstance(node, yaml.SequenceNode):
            return Item([self(child, child) for child in node.value], place)
        is_word = isinstance(node, yaml.ScalarNode) and node.style is None and node.value.lower() in BOOLEANS
        return Item(self._scalar(node), place, is_word)

    def _entries(self, node: yaml.MappingNode) -> Iterator[tuple[str, Item]]:
        seen: dict[str, str] = {}
        for key, value in node.value:
            place = self._place(key)
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append(f"{place}: a key must be a text, got a list or a mapping; quote it if it is meant")
            elif key.value == "<<" and key.style is None:
                rule = "a key must be a setting's name, got a merge (<<), which is not read"
                self.problems.append(f"{place}: {rule}; write the settings out, or put them in `run:`")
            elif key.value in seen:
                self.problems.append(
                    f"{place}: a key must stand once, got {key.value!r} again after {seen[key.value]}; remove one"
                )
            else:
                seen[key.value] = place
                yield self._printable(key), self(value, key)

    def _scalar(self, node: yaml.Node) -> Scalar:
        kind = node.tag.removeprefix(_TAG)
        text: str = node.value
        try:
            match kind:
                case "str":
                    return self._printable(node)
                case "null":
                    return None
                case "bool":
                    return text.lower() == "true"
                case "int":
                    return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
                case "float":
                    return float(re.sub(r"\.(?=[iInN])", "", text))
        except ValueError:  # more digits than Python converts, or a tag such as !!int on a text that is none
            pass
        self._refuse(node, repr(text[:40]))
        return text

    def _refuse(self, node: yaml.Node, shown: str) -> None:
        rule = "must be a text, a number, true, false, null, a list or a mapping"
        self.problems.append(f"{self._place(node)}: {rule}, got {shown} as {node.tag}; remove the tag, or quote a text")

    def _printable(self, node: yaml.Node) -> str:
        """Returns the node's text, each forbidden character replaced by `?`."""
        text: str = node.value
        if found := _UNPRINTABLE.search(text):
            self.problems.append(f"{self._place(node)}: {_PRINTABLE}, got {found.group()!a}; remove it")
        return _UNPRINTABLE.sub("?", text)

    def _place(self, node: yaml.Node) -> str:
        return self.place or f"{self.source}:{node.start_mark.line + 1}"
