"""The methods by name: what a sweep file may ask for, and which settings can change each one's result."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from l2t_ray.errors import InputError

BUILTIN = "l2t_ray.methods"
Scalar = bool | int | float | str


class Described(Protocol):
    """What the configuration has to know of a method; `l2t_ray.methods.Method` is the whole of it."""

    @property
    def name(self) -> str:
        """The name in the sweep file's `method:`."""

    @property
    def uses(self) -> frozenset[str]:
        """The optional settings that can change the result: "source", "transfer.beta", "transfer.pairs", ..."""

    @property
    def options(self) -> Mapping[str, Scalar]:
        """The method's own settings (`options:` of a run) with their defaults."""

    def laws(self, run: Any) -> Iterable[tuple[str, str]]:
        """(setting, what is wrong with it; remedy) for what a run's settings break between them."""


CODE_DIGITS = 12
METHODS: dict[str, Described] = {}
CODE: dict[str, dict[str, str]] = {}  # of methods from files: the file's name, and the start of its SHA-256 when loaded
AnyMethod = TypeVar("AnyMethod", bound=Described)


def register(method: AnyMethod) -> AnyMethod:
    """Adds a method under its name.

    Args:
        method: the object; loading the same file twice replaces it.

    Returns:
        The same object.
    """
    METHODS[method.name] = method
    return method


def load(modules: Iterable[str | Path] = ()) -> None:
    """Imports the built-in methods and then the given ones, each of which registers itself.

    Args:
        modules: importable names, or paths of Python files (a sweep file's `methods:`).

    Raises:
        InputError: if a file does not exist, cannot be imported, or takes a name that is not its own; what it has
            registered until then is forgotten.
    """
    for module in (BUILTIN, *modules):
        if not isinstance(module, Path) and not module.endswith(".py"):
            importlib.import_module(module)
            continue
        path = Path(module).resolve()
        name = f"l2t_ray_user_methods.{path.stem}"
        if getattr(sys.modules.get(name), "__file__", None) == str(path):
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise InputError(f"{module}: methods: names a Python file that does not exist; correct the path")
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[name] = loaded
        before = dict(METHODS)
        try:
            content = path.read_bytes()
            spec.loader.exec_module(loaded)
            own = [told for told, method in METHODS.items() if before.get(told) is not method]
            for told in own:
                if told in before and told not in CODE:
                    law = "register must not be given the name of a built-in method"
                    raise InputError(f"{module}: {law}, got {told!r}; choose another")
        except Exception as error:
            del sys.modules[name]
            METHODS.clear()
            METHODS.update(before)
            if isinstance(error, InputError):
                raise
            raise InputError(f"{module}: cannot be imported as a file of methods: {error!r}") from error
        digest = hashlib.sha256(content).hexdigest()[:CODE_DIGITS]
        CODE.update({told: {path.name: digest} for told in own})
