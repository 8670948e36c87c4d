"""A trainer's modules are imported anew for every run, whatever else stands among the loaded modules."""

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from l2t_ray import registry
from l2t_ray.trainer.load import forget, load
from l2t_ray.trainer.spec import Spec


class Lazy(ModuleType):
    """Imports what it stands for when it is first asked."""

    def __getattribute__(self, name):
        raise ImportError(f"{name}: no such library")


class Raced(str):
    """The place of a module that another thread forgets while it is read."""

    def startswith(self, *others):
        sys.modules.pop("raced", None)
        return super().startswith(*others)


def test_modules_beside_the_trainer_are_forgotten_whatever_else_is_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lazy, raced, beside, elsewhere = Lazy("lazy"), ModuleType("raced"), ModuleType("beside"), ModuleType("elsewhere")
    raced.__file__, beside.__file__ = Raced(tmp_path / "raced.py"), str(tmp_path / "beside.py")
    elsewhere.__file__ = "/somewhere/elsewhere.py"
    found = {"lazy": lazy, "nothing": None, "raced": raced, "beside": beside, "elsewhere": elsewhere}
    for name, module in found.items():
        monkeypatch.setitem(sys.modules, name, module)
    forget(Spec(function="own.py"), {})
    assert [name for name in found if name in sys.modules] == ["lazy", "nothing", "elsewhere"]


@pytest.mark.parametrize("where", ["trainer", "methods"])
def test_an_edited_file_of_equal_size_and_time_is_what_it_holds(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for n in (1, 2):
        Path("mine.py").write_text(f"def train(settings, seed, context):\n    return {n}\n")
        os.utime("mine.py", (10**9, 10**9))  # as from an archive whose files all have one time
        if where == "trainer":
            spec = Spec(function="mine.py").with_digests()
            forget(spec, {})
            found = load(spec)
        else:
            registry.load(["mine.py"])
            found = sys.modules.pop("l2t_ray_user_methods.mine").train
        assert found({}, 0, None) == n


def test_trainers_of_two_folders_each_find_what_lies_beside_them(tmp_path):
    for name in ("first", "second", "first"):
        (folder := tmp_path / name).mkdir(exist_ok=True)
        (folder / "mine.py").write_text(
            "from beside import NAME\n\ndef train(settings, seed, context):\n    return NAME\n"
        )
        (folder / "beside.py").write_text(f"NAME = {name!r}\n")
        spec = Spec(function=str(folder / "mine.py")).with_digests()
        forget(spec, {})
        assert load(spec)({}, 0, None) == name
