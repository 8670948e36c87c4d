"""A run: one training of one target network, frozen, and known by the hash of every setting that can change its result.

`Execution` holds how runs are trained. It can change no result, so it is no part of a run's key.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from l2t_ray import registry
from l2t_ray.published import named_weights, weights_at, weights_file
from l2t_ray.registry import Arch, missing_level, network_problems, recompute_problem
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


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("must name each one once")
    return values


def _plain_count(counts: dict[str, int]) -> dict[str, int] | int:
    return counts["*"] if set(counts) == {"*"} else counts  # {"*": 5} and 5 are one setting, so one key


Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0), AfterValidator(abs)]  # -0.0 and 0.0 are one setting, so one key
Count = Annotated[int, Field(ge=1)]
Level = Annotated[int, Field(ge=0)]
Pair = tuple[Level, Level]
PairList = Annotated[
    tuple[Pair, ...], Field(min_length=1), AfterValidator(_distinct), AfterValidator(lambda pairs: tuple(sorted(pairs)))
]
Pairs = Literal["all", "one_to_one", "single"] | PairList
Places = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_distinct)]
Entry = Annotated[str, Field(pattern=r"^[\w.-]+(\[\d+(,\d+)*\])?$")]
GridEntry = Annotated[str, Field(pattern=r"^\d-\d(\[\d+,[0-2],[0-2]\])?$")]
LABEL = r"^[\w.+=()-][\w .+=()-]{0,99}$"  # a part of a cell's name, between slashes
Label = Annotated[str, Field(pattern=LABEL)]


class Frozen(BaseModel):
    """Immutable settings; refuses unknown names and wrong types, and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _check_network(section: str, arch: str, width: float, levels: tuple[str, ...] | None) -> None:
    for setting, problem in network_problems(section, arch, width, levels):
        raise ValueError(f"{setting} {problem}")


LEVELS = "where networks of torchvision and timm give maps: nodes of torchvision.models.feature_extraction, in order"


class Source(Frozen):
    """The frozen network that teaches."""

    arch: Arch = Field("resnet32", description="the network")
    width: Positive = Field(1.0, description="factor on the channels; a ResNet has 16/32/64 at 1")
    levels: Places | None = Field(None, description=LEVELS)
    weights: Annotated[str, AfterValidator(named_weights)] | None = Field(
        None, description="file of weights, relative to the working folder; or published ones by their name"
    )
    sha256: str | None = Field(None, description="content of that file; filled in when the sweep file is read")
    train: str | None = Field(
        None, description="file of `python -m l2t_ray.pretrain` that trains the weights, first, where they are missing"
    )

    @property
    def file(self) -> str | None:
        """The file of weights; of published ones, the one that they are fetched to."""
        return weights_file(self.arch, self.weights)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_network("source", self.arch, self.width, self.levels)
        return self


class Target(Frozen):
    """The network that is trained."""

    arch: Arch = Field("vgg9", description="the network")
    width: Positive = Field(1.0, description="factor on the channels; a VGG has 64 to 512 at 1")
    levels: Places | None = Field(None, description=LEVELS)
    weights: str | None = Field(
        None, description="file of weights, or published ones by their name, to start from, but for the classifier"
    )
    sha256: str | None = Field(None, description="content of that file; filled in when the sweep file is read")

    @property
    def file(self) -> str | None:
        """The file of weights; of published ones, the one that they are fetched to."""
        return weights_file(self.arch, self.weights)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_network("target", self.arch, self.width, self.levels)
        return self


class Data(Frozen):
    """Which images, and how many of them."""

    name: Literal[*registry.DATA_SETS] = Field(description="the data set")  # type: ignore[valid-type]
    path: str | None = Field(
        None, description="image_folder, tiny_imagenet: the folder, tar or zip, from the working folder; or a table"
    )
    test_fraction: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="image_folder without `test/`: this part of each class is the test set, of all runs alike",
    )
    title: Label | None = Field(None, description="name in tables; by default the data set's, or the path's stem")
    sha256: str | None = Field(None, description="content of `path`; filled in when the sweep file is read")
    image_size: Annotated[int, Field(ge=32, le=1024)] = Field(
        registry.IMAGE_SIZE, description="pixels of each side, to which images are resized"
    )
    resize: Literal["squash", "shorter_side", "pad"] = Field(
        "squash",
        description="image_folder, of images that are not square: squash them; cut the longer side; or pad with black",
    )
    normalize: Literal["imagenet", "from_source"] = Field(
        "imagenet", description="mean and deviation of the channels: ImageNet's, or what the source's weights expect"
    )
    classes: Annotated[tuple[str, ...], Field(min_length=2), AfterValidator(_distinct)] | None = Field(
        None, description="train and test on these classes alone"
    )
    samples_per_class: Count | Annotated[dict[str, Count], Field(min_length=1), AfterValidator(_plain_count)] = Field(
        description="training images of each class; a map of class to number for imbalance, '*' for all others"
    )
    validation_per_class: Count | None = Field(
        None,
        description="further training images of each class, held out: the run is measured on them, not on the test set",
    )


class Training(Frozen):
    """How the target is trained (thesis 5.4)."""

    epochs: Count = Field(200, description="passes over the training images")
    batch_size: Annotated[int, Field(ge=2)] = Field(128, description="images of a step")
    lr: Positive = Field(0.1, description="alpha at the first epoch; cosine to 0")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="of SGD")
    weight_decay: NonNegative = Field(1e-4, description="of SGD")
    precision: Literal["float32", "tf32", "bf16", "float64"] = Field(
        "float32", description="tf32, bf16: of convolutions' operands alone; sums and all else are float32"
    )
    accumulate: Count = Field(
        1, description="parts of a batch, one after the other, whose gradients make one step; not for l2t_ww, l2t_www"
    )
    recompute: bool = Field(
        False, description="torchvision's networks: compute parts again instead of keeping them; changes no key"
    )


class Augment(Frozen):
    """Random changes to training images."""

    crop_padding: Annotated[int, Field(ge=0, le=16)] = Field(4, description="zeros on each side, before a crop")
    flip: bool = Field(True, description="left to right, of every other image")
    resized_crop: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="in place of `crop_padding`: a crop of this share of the area at least, resized back"
    )
    rand_augment: Annotated[int, Field(ge=0, le=10)] = Field(0, description="RandAugment: operations on each image")
    rand_augment_magnitude: Annotated[int, Field(ge=0, le=30)] = Field(9, description="RandAugment: their strength")
    color_jitter: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="brightness, contrast and saturation times 1 - this to 1 + this"
    )
    hue_jitter: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="hue plus - this to this, as a share of the circle"
    )
    mixup: NonNegative = Field(
        0.0, description="alpha of the Beta distribution of an image's share in a mixture of two; 0: no mixture"
    )

    @property
    def is_plain(self) -> bool:
        """Whether images are moved and flipped alone."""
        more = self.resized_crop, self.rand_augment, self.color_jitter, self.hue_jitter, self.mixup
        return not any(more)


class Transfer(Frozen):
    """Feature matching and the bilevel training (Algorithm 1 of the thesis)."""

    beta: NonNegative = Field(0.5, description="weight of the matching loss")
    pairs: Pairs = Field("all", description="which (source level m, target level n) are matched, or a list of them")
    look_ahead_steps: Count = Field(2, description="T")
    meta_lr: Positive = Field(1e-4, description="Adam's learning rate for phi")
    meta_weight_decay: NonNegative = Field(1e-4, description="Adam's, for phi")
    inner: Literal["sgd", "published"] = Field(
        "sgd", description="look-ahead steps: plain, or with momentum, weight decay and beta as in the published code"
    )


TARGET, PREDICTIONS = "target.safetensors", "predictions.parquet"  # files that a run keeps


class Record(Frozen):
    """What is measured during training."""

    evaluations: Annotated[int, Field(ge=0)] = Field(
        10, description="points during training; the last epoch is always one"
    )
    per_class: bool = Field(
        False, description="every class' test accuracy at each point; at the last, up to 20 classes have it anyway"
    )
    weights: Literal["last"] | None = Field(
        None, description="last: keep the trained network (target.safetensors); changes no result and no key"
    )
    predictions: bool = Field(
        False, description="keep every test image's predictions (predictions.parquet); changes no result and no key"
    )


class Trace(Frozen):
    """Which values are recorded during training, in the artifact `traces.parquet`; they change no result and no key."""

    model_config = ConfigDict(populate_by_name=True)

    weights: Annotated[tuple[Entry, ...], Field(max_length=64), AfterValidator(_distinct)] = Field(
        (), description="of the target, by parameter and index: conv.3.weight[0,2,1,1]; without an index, eight of them"
    )
    gamma: Annotated[tuple[GridEntry, ...], Field(max_length=64), AfterValidator(_distinct)] = Field(
        (), description="by pair, then channel, row and column of h's 3 x 3 grid: 2-4[0,1,1]; without an index, eight"
    )
    lambda_: bool = Field(False, alias="lambda", description="of every pair")
    omega: bool = Field(False, description="of every pair and channel")
    every: Count = Field(
        1, description="epochs from one value to the next; before training and the last always have one"
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


def _unit_fraction(share: float) -> float:
    if 1 - share * int(1 / share + 1e-9) > 0.05:  # 0.33 means a third; 0.15 would leave a tenth of the card unused
        raise ValueError("must be auto, or 1 / k for a whole number k (1, 0.5, 0.3333, 0.25, ...)")
    return share


class Execution(Frozen):
    """How runs are trained: none of these settings can change a result."""

    gpu_share: Literal["auto"] | Annotated[float, Field(gt=0, le=1), AfterValidator(_unit_fraction)] = Field(
        "auto", description="1 / k: trials side by side on one GPU"
    )
    pack: Literal["auto"] | Count = Field("auto", description="runs trained together in one process")
    mps: Literal["auto", "off", "on"] = Field("auto", description="NVIDIA's service that lets processes share a card")
    threads: Literal["auto"] | Count = Field("auto", description="CPU threads of a trial")
    retries: Annotated[int, Field(ge=0)] = Field(2, description="further attempts for a run that raised an exception")
    fail_fast: bool = Field(
        True, description="two runs of a cell that raise the same error stop the cell; not for memory, time or machine"
    )
    storage: str = Field(
        ".l2t", description="folder of checkpoints, or s3:// or gs://; all machines must see it", min_length=1
    )
    data_dir: str = Field("data", description="folder of the data sets", min_length=1)
    download: bool = Field(True, description="fetch data sets that are not there")
    checkpoint_s: NonNegative = Field(60, description="seconds between checkpoints, at the least")
    hang_s: Positive = Field(300, description="an epoch may take these seconds and 30 times its expected time")
    slurm: dict[str, str | int | bool] = Field(
        {}, description="with `--backend slurm`: options of sbatch by their names (`{partition: gpu, time: 240}`)"
    )
    slurm_jobs: Count = Field(8, description="with `--backend slurm`: jobs of the array, at most")
    price_per_hour: NonNegative | None = Field(
        None, description="of the whole machine or cluster; the plan shows the cost"
    )


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
