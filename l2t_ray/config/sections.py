"""The sections of a run's settings, with their types, bounds and defaults."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from l2t_ray import registry
from l2t_ray.published import named_weights, weights_file
from l2t_ray.registry import Arch, network_problems


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("must name each one once")
    return values


def _plain_count(counts: dict[str, int]) -> dict[str, int] | int:
    return counts["*"] if set(counts) == {"*"} else counts  # {"*": 5} and 5 are one setting, so one key


LOCAL, WRITTEN_OUT = "be on this machine", "be written out, because ~ is not expanded"  # rules, after "must"
_OF_WEIGHTS = (".bin", ".ckpt", ".h5", ".msgpack", ".npz", ".onnx", ".pt", ".pth", ".safetensors", ".tar")
_BESIDE = re.compile("optimizer|scheduler|scaler|rng_state|training_args")  # what lies beside weights


def written_out(path: str) -> str:
    """Returns a path; refuses one that begins with a home folder as shells know it, whose folder would be called ~."""
    if path == "~" or re.match("~[^/]*/", path):
        raise ValueError(f"must {WRITTEN_OUT}")
    return path


def local_path(path: str) -> str:
    """Returns a path; refuses an address, of which `Path` would make a folder `s3:`, and `~`."""
    if "://" in path:
        raise ValueError(f"must {LOCAL}")
    return written_out(path)


def file_in(folder: Path) -> str:
    """Returns the remedy for a folder in the place of a file of weights: the files in it that look like some."""
    names = sorted(path.name for path in folder.iterdir())
    if any(name.endswith(".distcp") for name in names):  # of torch.distributed.checkpoint, as FSDP writes it
        return f"make a file of it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} FILE"
    found = [name for name in names if Path(name).suffix in _OF_WEIGHTS and not _BESIDE.match(name)]
    return f"name the file in it: {', '.join(found[:4])}" if found else "name a file of weights"


LocalPath = Annotated[str, Field(min_length=1), AfterValidator(local_path)]
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


LEVELS = (
    "where networks of other libraries give maps, in order: modules, or nodes of torchvision.models.feature_extraction"
)


class Source(Frozen):
    """The frozen network that teaches."""

    arch: Arch = Field("resnet32", description="the network")
    width: Positive = Field(1.0, description="factor on the channels; a ResNet has 16/32/64 at 1")
    levels: Places | None = Field(None, description=LEVELS)
    weights: Annotated[str, AfterValidator(local_path), AfterValidator(named_weights)] | None = Field(
        None, description="file of weights, relative to the working folder; or published ones by their name"
    )
    sha256: str | None = Field(None, description="content of that file; filled in when the sweep file is read")
    train: Annotated[str, AfterValidator(local_path)] | None = Field(
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
    weights: Annotated[str, AfterValidator(local_path)] | None = Field(
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
    path: Annotated[str, AfterValidator(local_path)] | None = Field(
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
