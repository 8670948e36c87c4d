"""The settings of a source network's training, frozen and known by their hash; needs no torch."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from l2t_ray.config import LOCATIONS, Augment, Count, Data, Frozen, Positive, Source, Training, drop_later, flat
from l2t_ray.config.sections import LocalPath
from l2t_ray.run import KEY_DIGITS


def _weights_file(out: str) -> str:
    if Path(out).suffix.lower() == ".json":
        raise ValueError("must have another suffix than .json, such as .pt: its card has that name")
    return out


Share = Annotated[float, Field(gt=0, lt=1)]


class SourceNetwork(Source):
    """What is trained: a source's settings; `weights` are those that the training starts from."""

    weights: str | None = Field(None, description="file of weights to start from, but for the classifier")
    sha256: str | None = Field(None, description="content of that file; filled in when the settings are read")
    train: str | None = Field(None, description="file that trains those weights, first, where they are missing")


class SourceData(Data):
    """Which images; all of them by default."""

    samples_per_class: Count | dict[str, Count] | None = Field(  # type: ignore[assignment]  # `load_data` takes None
        None, description="as a run's; all of them by default"
    )
    validation_per_class: None = None  # a source is always measured on the test set
    normalize: Literal["imagenet"] = Field("imagenet", description="mean and deviation of the channels: ImageNet's")


class SourceTraining(Training):
    """How it is trained."""

    lr: Positive = Field(0.1, description="at the first epoch")
    milestones: tuple[Share, ...] = Field((0.5, 0.75), description="shares of the epochs after which lr falls tenfold")
    precision: Literal["float32", "tf32", "bf16", "float64"] = Field("float32", description="as a run's")
    accumulate: None = None  # type: ignore[assignment]  # a source is trained batch by batch
    recompute: None = None  # type: ignore[assignment]


class Pretraining(Frozen):
    """One training of a source network."""

    out: Annotated[LocalPath, AfterValidator(_weights_file)] = Field(
        description="file of weights to write, from the working folder"
    )
    data: SourceData
    source: SourceNetwork = SourceNetwork()
    training: SourceTraining = SourceTraining()
    augment: Augment = Augment()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="of all that is random")

    def resolved(self) -> dict[str, Any]:
        """Returns every setting that can change the result, nested, as plain JSON values; no places of files."""
        settings = self.model_dump(mode="json", exclude={"out"})
        for section, name in LOCATIONS:
            settings.get(section, {}).pop(name, None)
        drop_later(settings)
        for name in ("accumulate", "recompute"):
            settings["training"].pop(name)
        if self.source.sha256 is None:
            del settings["source"]["sha256"]
        return settings

    @property
    def key(self) -> str:
        """16 hex digits of the SHA-256 of the resolved settings as sorted JSON."""
        text = json.dumps(self.resolved(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Returns the settings in which two trainings differ, each as "training.epochs is 20, not 30"."""
    here, there = flat(one), flat(other)
    names = [name for name in sorted({*here, *there}) if here.get(name) != there.get(name)]
    return [f"{name} is {here.get(name)}, not {there.get(name)}" for name in names]
