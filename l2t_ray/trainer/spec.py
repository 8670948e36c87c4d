"""What a sweep file's `trainer:` names: a function of a Python file or module, or a command; and its identity.

    trainer: my_train.py                        # its function `train`
    trainer: package.module:function
    trainer: {function: my_train.py, version: 2}
    trainer: {command: "python train.py --lr {lr} --seed {seed}", result: results.json}

A trainer is known by the content of its file, of a command's by every file of the working folder that it names, also
as a module (`python -m train`), and by its `result:`; a `version:` takes the place of the content, for edits that do
not count. Files that these import do not count, unless `files:` lists them.
"""

import hashlib
import importlib.util
import itertools
import json
import os
import re
import shlex
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from l2t_ray.config import Frozen
from l2t_ray.errors import InputError
from l2t_ray.files import compute_sha256

FUNCTION = "train"
RESULT = "results.json"  # the keys of earlier versions held no `result:`; those of this name stay
PLACEHOLDER = re.compile(r"\{([\w.-]+)\}")
GIVEN = ("seed", "device", "threads")  # placeholders that are no settings
OPERATOR = re.compile(  # a word that only a shell understands
    r"\|\|?|&&?|;|.*;|[&\d]?>.*|\d?<.*|#|~/.*|[^'\"]*\$[A-Z_][A-Z\d_]*\b.*"
)
SCRIPTS = (".py", ".sh", ".R", ".jl")
Text = Annotated[str, Field(min_length=1)]


class Spec(Frozen):
    """A trainer of the user's own."""

    function: Text | None = Field(None, description="FILE.py, FILE.py:FUNCTION or MODULE:FUNCTION; by default `train`")
    command: Text | None = Field(None, description="a command line with {SETTING}, {seed}, {device}, {threads}")
    result: Text | None = Field(None, description="of a command: the JSON file of numbers that it writes")
    version: str | int | None = Field(None, description="takes the place of the files' content in the run's key")
    files: tuple[Text, ...] = Field((), description="further files whose content makes another run")
    metric: str = Field("", description="the result that counts")
    digests: dict[str, str] = Field(default_factory=dict, description="path to SHA-256; filled in when it is read")

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        if (self.function is None) == (self.command is None):
            raise ValueError("must have a function or a command")
        if (self.command is None) != (self.result is None):
            raise ValueError("must have `result:` with a command, and only then")
        return self

    @property
    def place(self) -> tuple[str, str]:
        """The function's file or module, and its name."""
        assert self.function is not None
        place, colon, name = self.function.rpartition(":")
        return (place, name) if colon else (name, FUNCTION)

    @property
    def is_file(self) -> bool:
        """Whether the function is in a file that is named by its path."""
        return self.function is not None and self.place[0].endswith(".py")

    @property
    def name(self) -> str:
        """The trainer's name in tables, where nothing else tells cells apart."""
        if self.command is not None:
            if modules := [*self._modules()]:
                return modules[0].rpartition(".")[2]
            scripts = [word for word in self.words if Path(word).suffix]
            return Path((scripts or self.words)[0]).stem
        place, name = self.place
        stem = Path(place).stem if self.is_file else place
        return stem if name == FUNCTION else f"{stem}.{name}"

    @property
    def words(self) -> list[str]:
        """The command's words, with placeholders."""
        return shlex.split(self._line)

    @property
    def _line(self) -> str:
        """The command, its lines joined where one ends with a backslash."""
        return (self.command or "").replace("\\\n", "")

    def placeholders(self) -> set[str]:
        """The names in braces."""
        return {name for word in self.words for name in PLACEHOLDER.findall(word)}

    def identity(self) -> dict[str, str]:
        """What the key holds: the version with the place, or the content without the place."""
        if self.command is not None:
            head = {"command": self.command}
            if self.result is not None and self.result != RESULT:  # another file has other numbers
                head["result"] = self.result
        elif self.version is not None:
            head = {"function": ":".join(self.place)}
        else:
            head = {"function": self.place[1]}
        if self.version is not None:
            return {**head, "version": str(self.version)}
        digests = [*self.digests.values()]
        text = digests[0] if len(digests) == 1 else hashlib.sha256(json.dumps(digests).encode()).hexdigest()
        return {**head, "sha256": text}

    def paths(self) -> Collection[str]:
        """The files that count, each once: the function's, or those that the command names; then `files:`."""
        if self.command is not None:
            modules = [name.replace(".", "/") for name in self._modules()]
            asked = [*self.words, *(f"{path}{end}" for path in modules for end in (".py", "/__main__.py"))]
            named = [word for word in asked if os.path.isfile(word)]  # noqa: PTH113  pathlib's raises where a word is too long for a name
        else:
            named = [self.place[0] if self.is_file else _origin(self.place[0])]
        return dict.fromkeys([*named, *self.files])

    def _modules(self) -> Iterable[str]:
        """The modules that the command runs: of `python -m train`, train."""
        return [name for flag, name in itertools.pairwise(self.words) if flag == "-m"]

    def _check_command(self) -> None:
        operators = [word for word in shlex.split(self._line, posix=False) if OPERATOR.fullmatch(word)]
        if operators:
            rule = "the command must be words alone, as no shell reads it"
            raise InputError(f"{rule}, got {operators[0]}; write a script, or quote the word")
        is_code = Path(self.words[0]).name.startswith("python") and "-c" in self.words if self.words else True
        if self.version is None and not is_code and not self.paths():
            rule = "the command must name a file of its code, or edited code would count as trained"
            lost = next((word for word in self.words if word.endswith(SCRIPTS)), "")
            got = f"{lost}, which is not there; correct the path" if lost else "none in the working folder"
            raise InputError(f"{rule}, got {got}; or add `files: [FILE]` or `version: 1`")

    def with_digests(self) -> Self:
        """Returns the trainer with the digests of its files.

        Raises:
            InputError: if one of them cannot be read, or a command has none or needs a shell.
        """
        if self.command is not None:
            self._check_command()
        found = {}
        for path in self.paths():
            try:
                found[path] = compute_sha256(Path(path))
            except OSError as error:
                rule = "must be a file that can be read, from the working folder"
                raise InputError(f"trainer {rule}, got {path!r} ({error.strerror}); correct the path") from error
        return self.model_copy(update={"digests": found})

    def check_digests(self, here: Mapping[str, str]) -> None:
        """Refuses files that were edited since the launch has read them.

        Args:
            here: path to its place on this machine.

        Raises:
            InputError: if one differs, and no `version:` takes its place.
        """
        for path, sha256 in self.digests.items():
            if self.version is None and compute_sha256(Path(here.get(path, path))) != sha256:
                rule = f"{path}: must be the file that the launch has read, {sha256[:12]}"
                raise InputError(f"{rule}, got an edited one; launch again, which trains with the new one")


def _origin(module: str) -> str:
    """The file of a module, found from the working folder, without importing it (only the packages above it)."""
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.append(folder)
    try:
        found = importlib.util.find_spec(module)
    except Exception as error:  # of a package above it
        raise InputError(f"trainer must be a module that can be imported, got {module!r}: {error!r}") from error
    if found is None or not found.origin or not found.has_location:
        remedy = "correct the name, or write the path of a file that ends in .py"
        raise InputError(f"trainer must be a module with a file, got {module!r}; {remedy}")
    return found.origin


def is_within(result: str) -> bool:
    """Whether a command's file of results is in the folder of its run; any other is shared by runs."""
    parts = Path(result).parts
    return bool(parts) and not Path(result).is_absolute() and ".." not in parts and parts[0] != "~"


def filled(word: str, values: Mapping[str, Any]) -> str:
    """Returns a word of a command with its placeholders replaced; a text as it is, anything else as JSON."""

    def text(match: re.Match[str]) -> str:
        value = values[match[1]]
        return value if isinstance(value, str) else json.dumps(value)

    return PLACEHOLDER.sub(text, word)
