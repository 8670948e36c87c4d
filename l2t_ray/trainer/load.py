"""Loads the function of a trainer, and the type that it annotates its settings with."""

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticUserError

from l2t_ray.errors import InputError
from l2t_ray.files import FreshSource
from l2t_ray.trainer.form import Form, differently_named, told
from l2t_ray.trainer.spec import Spec

PARAMETERS = ("settings", "seed", "context")
OURS = {"__main__", "analysis", "l2t", "l2t_ray"}
LIBRARIES = {"site-packages", "dist-packages"}
Train = Callable[[Any, int, Any], Any]
_reached: list[str] = []  # the folder that this process has put on `sys.path` for a trainer


def load(spec: Spec, here: Mapping[str, str] | None = None) -> Train:
    """Returns the function of a trainer, imported once until `forget` is called.

    Args:
        spec: with a function.
        here: path to its place on this machine.

    Returns:
        `train(settings, seed, context)`.

    Raises:
        InputError: if it cannot be imported, or does not take these.
    """
    place, name = spec.place
    path = str(Path((here or {}).get(place, place)).resolve())
    module = _file(path, _digest(spec)) if spec.is_file else _named(place)
    found = getattr(module, name, None)
    if not callable(found):
        known = [
            key
            for key, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not key.startswith("_")
        ]
        rule = f"{place}: must have a function {name}({', '.join(PARAMETERS)})"
        closest = difflib.get_close_matches(name, known, 1)
        remedy = f"did you mean {closest[0]}?" if closest else f"add it, or name it: {place}:FUNCTION"
        raise InputError(f"{rule}, got functions {', '.join(known) or 'none'}; {remedy}")
    try:
        inspect.signature(found).bind(*PARAMETERS)
    except (TypeError, ValueError) as error:
        rule = f"{place}: {name} must take ({', '.join(PARAMETERS)})"
        raise InputError(f"{rule}, got {name}{inspect.signature(found)}; correct its parameters") from error
    return typing.cast("Train", found)


def form_of(spec: Spec, function: Train | None) -> Form:
    """Returns what the settings must be: of a command, plain values; else what the first parameter is annotated with.

    Args:
        spec: of the trainer.
        function: of the trainer; None for a command.

    Raises:
        InputError: if it is annotated with what is no pydantic model, dataclass or map.
    """
    if function is None:
        return Form(None)
    place, name = spec.place
    first = next(iter(inspect.signature(function).parameters))
    try:
        kind = typing.get_type_hints(function, include_extras=True).get(first)
        _check_kind(kind)
        adapter = None if kind in {None, Any, dict, Mapping} else TypeAdapter(kind)
    except (PydanticUserError, NameError, TypeError) as error:
        rule = f"{place}: the settings of {name} must be annotated with a pydantic model, a dataclass, dict or nothing"
        reason = str(error).splitlines()[0]
        raise InputError(f"{rule}, got {reason}; correct the annotation") from error
    if adapter is not None and (odd := differently_named(adapter)):
        rule = f"{place}: {odd} in the settings of {name} must be read and written by one name"
        raise InputError(f"{rule}, got a validation_alias of its own; write `alias=` instead")
    return Form(adapter, kind)


def _check_kind(kind: Any) -> None:
    whole = typing.get_origin(kind) or kind
    if isinstance(whole, type) and not (
        dataclasses.is_dataclass(whole) or typing.is_typeddict(whole) or issubclass(whole, BaseModel | Mapping)
    ):
        raise TypeError(whole.__name__)


def _digest(spec: Spec) -> str:
    return spec.digests.get(spec.place[0], "")


def forget(spec: Spec, here: Mapping[str, str]) -> None:
    """Has the trainer's file, and modules beside it or in the working folder, imported anew: their state is a run's.

    Args:
        spec: with a function.
        here: path to its place on this machine.
    """
    place = spec.place[0]
    if spec.is_file:
        file = str(Path(here.get(place, place)).resolve())
    else:
        file = str(getattr(sys.modules.get(place.partition(".")[0]), "__file__", None) or Path.cwd() / "module")
    _forget_within([str(Path.cwd()), str(Path(file).parent)])
    _file.cache_clear()


def forget_added(path: Sequence[str]) -> None:
    """Removes what a run has added to `sys.path`, and forgets the modules from there; installed libraries stay.

    Args:
        path: `sys.path` before the run.
    """
    added = {
        place for place in map(str, sys.path) if place not in path and not LIBRARIES.intersection(Path(place).parts)
    }
    sys.path[:] = [place for place in sys.path if str(place) not in added]
    python = sysconfig.get_path("stdlib")
    # modules of a relative place are below the working folder by name
    _forget_within(
        place for place in added if Path(place).is_absolute() and not python.startswith(place.rstrip(os.sep))
    )


def _forget_within(places: Iterable[str]) -> None:
    """Has modules from files below these folders imported anew; those of installed libraries stay."""
    folders = tuple(f"{place}{os.sep}" for place in places)
    for name, module in sys.modules.copy().items():  # other threads may import
        found = _file_of(module)
        if not isinstance(found, str) or not found.endswith(".py") or not found.startswith(folders):
            continue
        if name.partition(".")[0] not in OURS and not LIBRARIES.intersection(Path(found).parts):
            sys.modules.pop(name, None)


def _file_of(module: object) -> object:
    """What a module has as `__file__`; a lazy one is not loaded for it."""
    try:
        return object.__getattribute__(module, "__dict__").get("__file__")
    except AttributeError:  # whatever else stands there
        return None


@functools.cache
def _file(path: str, digest: str) -> types.ModuleType:
    """A file as a module of its own: two files of one name are two modules, an edited file is a third."""
    if not Path(path).is_file():
        raise InputError(f"{path}: must be a Python file, from the working folder; correct the path")
    _reach(str(Path(path).parent))
    try:
        if _is_found(Path(path).stem, path):
            with contextlib.suppress(ImportError):  # where two modules import each other, it needs another name
                return _executed(Path(path).stem, path)
        return _executed(f"l2t_ray_trainer_{hashlib.sha256(f'{path} {digest}'.encode()).hexdigest()[:12]}", path)
    except (Exception, SystemExit) as error:
        raise InputError(f"{path}: must be a file that can be imported, got {told(error)}; correct it") from error


def _reach(folder: str) -> None:
    """Puts a trainer's folder on `sys.path`, as `python FILE` has it, in the place of another trainer's."""
    if others := [place for place in _reached if place != folder]:
        sys.path[:] = [place for place in sys.path if place not in others]
        _forget_within(others)
        _reached.clear()
    if folder not in sys.path:
        sys.path.append(folder)
        _reached[:] = [folder]


def _is_found(name: str, path: str) -> bool:
    """Whether another process that imports the name finds this file, so that it can take what the file defines."""
    found = None if name in sys.modules or "." in name else importlib.util.find_spec(name)
    return found is not None and found.origin is not None and Path(found.origin).resolve() == Path(path)


def _executed(name: str, path: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, path, loader=FreshSource(name, path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # annotations are looked up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _named(module: str) -> types.ModuleType:
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.append(folder)
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"{module}: must be a module that can be imported, got {told(error)}; correct it") from error
