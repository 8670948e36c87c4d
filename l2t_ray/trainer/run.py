"""A run of a trainer of the user's own: free-form settings, a seed, and the identity of what trains it."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field

from l2t_ray.config import Frozen
from l2t_ray.run import AnyRun
from l2t_ray.trainer.names import nested

CODE_DIGITS = 12
NO_AXIS = "-"  # in the place of the axis in a cell's name


class OwnRun(AnyRun, Frozen):
    """One training by a trainer of the user's own."""

    trainer: dict[str, str] = Field(description="what the key holds of the trainer: its name, and digest or version")
    files: dict[str, str] = Field(default_factory=dict, description="name to SHA-256 of its files; no part of the key")
    settings: dict[str, Any] = Field(description="plain JSON values by dotted name, defaults filled in")
    seed: Annotated[int, Field(ge=0, lt=2**31)]

    def resolved(self) -> dict[str, Any]:
        """Returns the settings, the seed and the trainer's identity."""
        return {"trainer": dict(self.trainer), "settings": dict(self.settings), "seed": self.seed}

    def with_settings(self, settings: Mapping[str, Any], seed: int) -> Self:
        """Returns a run with these settings, all of them, and this seed."""
        return self.model_copy(update={"settings": dict(settings), "seed": seed})

    def setting(self, name: str) -> Any:
        """Returns a setting's value: of `settings.lr`, or of a map of settings; also the seed."""
        if name == "seed":
            return self.seed
        inner = name.removeprefix("settings.")
        if inner in self.settings:
            return self.settings[inner]
        found: Any = nested(self.settings)
        for part in inner.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found

    def labels(self, cell: str) -> dict[str, Any]:
        """Returns the parts of the cell's name; no label where there is no axis."""
        data, axis, method = cell.split("/")[:3]
        return {"data": data, "samples_per_class": "" if axis == NO_AXIS else axis, "method": method}

    @property
    def title(self) -> str:
        """The settings in one line."""
        shown = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return shown if len(shown) <= 100 else f"{shown[:97]}..."

    @property
    def code(self) -> Mapping[str, str]:
        """The trainer's files, also those that its `version:` keeps out of the key."""
        return {name: sha256[:CODE_DIGITS] for name, sha256 in self.files.items()}
