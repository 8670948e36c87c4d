"""A run: one training of one target network, known by the hash of every setting that can change its result."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from l2t_ray import registry
from l2t_ray.config.sections import (
    PREDICTIONS,
    TARGET,
    Augment,
    Data,
    Frozen,
    Record,
    Source,
    Target,
    Trace,
    Training,
    Transfer,
)  # fmt: skip
from l2t_ray.published import weights_at
from l2t_ray.registry import missing_level, recompute_problem
from l2t_ray.run import AnyRun

OPTIONAL_SECTIONS = ("source", "transfer")  # enter the key only where the method reads them
NO_PART_OF_THE_KEY = ("trace",)  # changes no result
# where files are, and how they come there: never in the key
LOCATIONS = (("source", "weights"), ("source", "train"), ("target", "weights"), ("data", "path"), ("data", "title"))
# settings that were added later, and the values with which older keys stay the same
LATER: tuple[tuple[str, str, Any], ...] = (
    ("data", "validation_per_class", None),
    ("data", "test_fraction", None),
    ("data", "image_size", registry.IMAGE_SIZE),
    ("data", "resize", "squash"),
    ("data", "normalize", "imagenet"),
    ("source", "levels", None),
    ("target", "levels", None),
    ("target", "sha256", None),
    ("training", "accumulate", 1),
    ("augment", "resized_crop", None),
    ("augment", "rand_augment", 0),
    ("augment", "rand_augment_magnitude", 9),
    ("augment", "color_jitter", 0.0),
    ("augment", "hue_jitter", 0.0),
    ("augment", "mixup", 0.0),
)


class Run(AnyRun, Frozen):
    """One training of one target network."""

    data: Data
    method: str = Field(description="by name: a built-in one, or one of `methods:`")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(description="of all that is random; also {from: 0, to: 29}")
    source: Source = Source()
    target: Target = Target()
    training: Training = Training()
    augment: Augment = Augment()
    transfer: Transfer = Transfer()
    record: Record = Record()
    trace: Trace = Trace()
    options: dict[str, registry.Scalar] = Field(
        default_factory=dict, validate_default=True, description="the method's own settings, defaults filled in"
    )

    @field_validator("method")
    @classmethod
    def _check_method(cls, name: str) -> str:
        if name not in registry.METHODS:
            raise ValueError(f"must be one of {', '.join(sorted(registry.METHODS))}")
        return name

    @field_validator("options")
    @classmethod
    def _complete_options(cls, given: dict[str, registry.Scalar], info: ValidationInfo) -> dict[str, registry.Scalar]:
        if "method" not in info.data:  # refused already
            return given
        options = dict(registry.METHODS[info.data["method"]].options)
        for name, value in given.items():
            if name not in options:
                raise ValueError(f"{name} is no option of {info.data['method']}")
            options[name] = like_default(value, options[name])
        return options

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        chosen = self.source.levels, self.target.levels
        wrong = missing_level(self.transfer.pairs, self.source.arch, self.target.arch, chosen)
        if problem := recompute_problem(self.target.arch, recompute=self.training.recompute):
            raise ValueError(f"training.recompute {problem}")
        if wrong and {"transfer", "transfer.pairs"} & registry.METHODS[self.method].uses:
            raise ValueError(f"transfer.pairs {wrong}")
        return self

    def resolved(self) -> dict[str, Any]:
        """Returns every setting that can change the result, defaults included, as nested plain JSON values.

        Settings that the method does not read, and the places of files, are left out.
        """
        method = registry.METHODS[self.method]
        settings = self.model_dump(mode="json", exclude={*NO_PART_OF_THE_KEY})
        for section in OPTIONAL_SECTIONS:
            if section not in method.uses:
                kept = {name: value for name, value in settings[section].items() if f"{section}.{name}" in method.uses}
                settings[section] = kept
        for section, name in LOCATIONS:
            settings[section].pop(name, None)
        for name in ("weights", "predictions"):
            settings["record"].pop(name)
        settings["training"].pop("recompute")
        for section, network in (("source", self.source), ("target", self.target)):
            if settings[section] and network.weights and network.sha256 is None:  # no sweep file has filled it in
                item = weights_at(str(network.file))
                if item is not None:
                    settings[section]["sha256"] = item.digest.partition(":")[2]
                elif section == "target":
                    settings[section]["sha256"] = network.weights
        if not reads_source(self):
            settings["data"].pop("normalize")
        drop_later(settings)
        return {name: value for name, value in settings.items() if value not in ({}, None)}

    @property
    def traced(self) -> tuple[str, ...]:
        """The requested traces that the run can keep: a method without h has no gamma.

        Returns:
            Texts such as `theta.conv.3.weight[0,2,1,1]`, `gamma.2-4` and `lambda`, with `@10` for every tenth epoch.
        """
        networks: frozenset[str] = getattr(registry.METHODS[self.method], "networks", frozenset())
        asked = [f"theta.{name}" for name in self.trace.weights]
        asked += [f"gamma.{name}" for name in self.trace.gamma if "which" in networks]
        asked += ["lambda"] if self.trace.lambda_ and "where" in networks else []
        asked += ["omega"] if self.trace.omega and "what" in networks else []
        every = "" if self.trace.every == 1 else f"@{self.trace.every}"
        return tuple(sorted(f"{name}{every}" for name in asked))

    @property
    def kept(self) -> tuple[str, ...]:
        """The names of the files that the run keeps beside its results, without its traces."""
        weights = (TARGET,) if self.record.weights else ()
        return (*weights, *((PREDICTIONS,) if self.record.predictions else ()))

    @property
    def extras(self) -> tuple[str, ...]:
        """All that is kept beside the results: traces and files. A finished run that lacks one is trained again."""
        return (*self.traced, *self.kept)

    def setting(self, name: str) -> Any:
        """Returns a setting's plain value by its dotted name."""
        section, _, inner = name.partition(".")
        value = self.model_dump(mode="json", by_alias=True)[section]
        return value.get(inner) if inner else value

    def labels(self, cell: str) -> dict[str, Any]:
        """Returns what a report groups the run by: data set, images a class, method."""
        data = self.data
        return {"data": data.title or data.name, "samples_per_class": data.samples_per_class, "method": self.method}

    def at_speed(self) -> Self:
        """Returns the run with one epoch, no evaluations and any source: an epoch takes as long."""
        training = self.training.model_copy(update={"epochs": 1})
        record = self.record.model_copy(update={"evaluations": 0})
        source = self.source.model_copy(update={"sha256": None})
        return self.model_copy(update={"training": training, "record": record, "source": source})

    @property
    def title(self) -> str:
        """What is trained: data set, images, method."""
        return f"{self.data.name}, {self.data.samples_per_class} images a class, {self.method}"

    @property
    def epochs(self) -> int:
        """Epochs of the training."""
        return self.training.epochs

    @property
    def n_evaluations(self) -> int:
        """Evaluations on all judged images."""
        return min(self.record.evaluations + 1, self.training.epochs)

    @property
    def may_pack(self) -> bool:
        """Runs of one shape are trained by one process."""
        return True

    @property
    def data_sha(self) -> str:
        """Digest of images that come from `data.path`."""
        return self.data.sha256 or ""

    @property
    def code(self) -> Mapping[str, str]:
        """The file of the user's method."""
        return registry.CODE.get(self.method, {})


_SCALARS = (("training", "lr"), ("training", "momentum"), ("training", "weight_decay"))
_TRANSFER_SCALARS = (("transfer", "beta"), ("transfer", "meta_lr"), ("transfer", "meta_weight_decay"))


def pack_shape(run: AnyRun) -> str:
    """Returns a text that is equal for runs that one pack can train: they differ in seed and scalar settings alone."""
    settings = run.resolved()
    settings.pop("seed")
    if isinstance(run, Run) and run.training.recompute:  # needs other memory and time
        settings["recompute"] = True
    for section, name in (*_SCALARS, *_TRANSFER_SCALARS):
        settings.get(section, {}).pop(name, None)
    return repr(settings)


def like_default(value: registry.Scalar, default: registry.Scalar) -> registry.Scalar:
    """Returns an option's value in the type of its default, so that 1 and 1.0 are one setting.

    Args:
        value: given.
        default: the method's.

    Returns:
        The value; a whole number as a float where the default is a float.

    Raises:
        ValueError: if it is of another type.
    """
    if type(default) is float and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        raise ValueError(f"must be of the type of its default {default!r}, {type(default).__name__}")
    return value


def drop_later(settings: dict[str, Any]) -> None:
    """Removes from dumped settings, in place, those of `LATER` with their values, and those without an effect."""
    augment = settings["augment"]
    if augment["resized_crop"] is not None:
        augment.pop("crop_padding")
    if not augment["rand_augment"]:
        augment.pop("rand_augment_magnitude")
    for section, name, value in LATER:
        if section in settings and settings[section].get(name) == value:
            settings[section].pop(name, None)


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested settings as {"section.name": value}; a map within a section stays one value."""
    found: dict[str, Any] = {}
    for section, values in settings.items():
        if isinstance(values, Mapping):
            found.update({f"{section}.{name}": value for name, value in values.items()})
        else:
            found[section] = values
    return found


def weights_files(run: Run) -> tuple[str, ...]:
    """Returns the files of weights that a run reads, the source's first."""
    files = (run.source.file if reads_source(run) else None, run.target.file)
    return tuple(file for file in files if file is not None)


def reads_source(run: Run) -> bool:
    """Whether a run needs its source network, because its method reads a setting of the source."""
    return any(name.split(".")[0] == "source" for name in registry.METHODS[run.method].uses)
