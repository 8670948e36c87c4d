"""A run: one training of one target network, frozen, known by the hash of every setting that can change its result.

`python -m l2t_ray.config schema` prints the JSON schema of a sweep file for editors.
"""

import hashlib
import json
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from l2t_ray import registry

KEY_DIGITS = 16
OPTIONAL_SECTIONS = ("source", "transfer")  # enter the key only where the method reads them
LOCATIONS = (("source", "weights"), ("data", "path"), ("data", "title"))  # where things lie: never in the key

Pairs = Literal["all", "one_to_one", "single"] | tuple[tuple[int, int], ...]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Frozen(BaseModel):
    """Immutable settings; unknown keys and wrong types are refused, numbers must be finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Source(Frozen):
    """The frozen network that teaches."""

    arch: Literal["resnet20", "resnet32", "resnet44", "resnet56"] = "resnet32"
    width: Positive = Field(1.0, description="factor on the channels, 16/32/64 at 1")
    weights: str | None = Field(None, description="file of weights, relative to the working folder")
    sha256: str | None = Field(None, description="content of that file; filled in when the sweep file is read")


class Target(Frozen):
    """The network that is trained."""

    arch: Literal["vgg9"] = "vgg9"
    width: Positive = Field(1.0, description="factor on the channels, 64 to 512 at 1")


class Data(Frozen):
    """Which images, and how many of them."""

    name: Literal["cifar10", "cifar100", "stl10", "tiny_imagenet", "image_folder", "digits"]
    path: str | None = Field(
        None, description="image_folder, tiny_imagenet: the folder or tar, from the working folder"
    )
    title: str | None = Field(None, description="name in tables; by default the data set's, or the path's stem")
    sha256: str | None = Field(None, description="content of `path`; filled in when the sweep file is read")
    classes: tuple[str, ...] | None = Field(None, description="train and test on these classes alone")
    samples_per_class: Count | dict[str, Count] = Field(
        description="training images of each class; a map of class to number for imbalance, '*' for all others"
    )


class Training(Frozen):
    """How the target is trained (thesis 5.4)."""

    epochs: Count = 200
    batch_size: Annotated[int, Field(ge=2)] = 128
    lr: Positive = Field(0.1, description="alpha at the first epoch; cosine to 0")
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegative = 1e-4
    precision: Literal["float32", "tf32", "bf16", "float64"] = "float32"


class Augment(Frozen):
    """Random changes to training images."""

    crop_padding: Annotated[int, Field(ge=0, le=16)] = 4
    flip: bool = True


class Transfer(Frozen):
    """Feature matching and Algorithm 1."""

    beta: NonNegative = Field(0.5, description="weight of the matching loss")
    pairs: Pairs = Field("all", description="which (source level m, target level n) are matched, or a list of them")
    look_ahead_steps: Count = Field(2, description="T")
    meta_lr: Positive = Field(1e-4, description="Adam's learning rate for phi")
    meta_weight_decay: NonNegative = 1e-4
    inner: Literal["sgd", "published"] = Field(
        "sgd", description="look-ahead steps: plain, or with momentum, weight decay and beta as in the published code"
    )


class Record(Frozen):
    """What is measured on the way."""

    evaluations: Annotated[int, Field(ge=0)] = Field(10, description="points on the way; the last epoch is always one")
    per_class: bool = Field(False, description="test accuracy of every class")


class Run(Frozen):
    """One training of one target network."""

    data: Data
    method: str
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    source: Source = Source()
    target: Target = Target()
    training: Training = Training()
    augment: Augment = Augment()
    transfer: Transfer = Transfer()
    record: Record = Record()
    options: dict[str, registry.Scalar] = Field(default_factory=dict, description="the method's own settings")

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        if self.method not in registry.METHODS:
            raise ValueError(f"method must be one of {', '.join(sorted(registry.METHODS))}, got {self.method!r}")
        return self

    def resolved(self) -> dict[str, Any]:
        """Every setting that can change the result, defaults included, as plain JSON values.

        Returns:
            Nested dictionaries; settings that the method does not read, and places of files, are left out.
        """
        method = registry.METHODS[self.method]
        settings = self.model_dump(mode="json")
        for section in OPTIONAL_SECTIONS:
            if section not in method.uses:
                kept = {name: value for name, value in settings[section].items() if f"{section}.{name}" in method.uses}
                settings[section] = kept
        for section, name in LOCATIONS:
            settings[section].pop(name, None)
        settings["options"] = {**method.options, **settings["options"]}
        return {name: value for name, value in settings.items() if value not in ({}, None)}

    @cached_property
    def key(self) -> str:
        """16 hex digits of the SHA-256 of the resolved settings as sorted JSON."""
        text = json.dumps(self.resolved(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]
