"""Files that others have published: their addresses, sizes, digests and licences, so that they are fetched by name.

A digest was computed from the file, or is the one by which others know it; a file with another digest is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("weights")  # of fetched weights, in the working folder


@dataclass(frozen=True)
class Published:
    """One published file."""

    what: str  # for messages
    address: str
    n_bytes: int
    digest: str  # `sha256:` or `md5:` and the hex digits
    licence: str
    arch: str = ""  # of weights: the network, at width 1


WEIGHTS: Mapping[str, Published] = {  # by the name that `source.weights` gives
    "l2t-ww-tinyimagenet": Published(
        "the ResNet-32 of L2T-ww, trained on Tiny ImageNet",
        "https://raw.githubusercontent.com/alinlab/L2T-ww/d5e77516e6f41b7e75102fc195ce57d9160be7cd/"
        "logs/tinyimagenet-200-resnet32/0/model_best.pth.tar",
        1_961_387,
        "sha256:049f81f8bea8504e90818d6c614f15c485ac2d891348330b433110e161f66d68",
        "MIT, Copyright (c) 2019 alinlab",
        "resnet32",
    ),
}
TINY_IMAGENET = Published(
    "Tiny ImageNet",
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    248_100_043,
    "md5:90528d7ca1a48142e341f4ef8d21d0de",
    "images of ImageNet: research and education only",
)
ARCHIVES: Mapping[str, tuple[str, str, int]] = {  # what torchvision fetches: folder, archive, bytes
    "cifar10": ("cifar-10-batches-py", "cifar-10-python.tar.gz", 170_498_071),
    "cifar100": ("cifar-100-python", "cifar-100-python.tar.gz", 169_001_437),
    "stl10": ("stl10_binary", "stl10_binary.tar.gz", 2_640_397_119),
}


def weights_place(name: str) -> Path:
    """Returns the file of published weights; it may not exist yet."""
    return FOLDER / f"{name}.pth.tar"


def named_weights(value: str) -> str:
    """Returns the file that `source.weights` means: a published file's own for its name, else what is given."""
    return str(weights_place(value)) if value in WEIGHTS and not Path(value).is_file() else value


def weights_at(path: str) -> Published | None:
    """Returns what is published for a file of weights, if it is one of ours to fetch."""
    return {str(weights_place(name)): found for name, found in WEIGHTS.items()}.get(path)


def images_at(name: str, path: str | None) -> Published | None:
    """Returns what is published for a data set's missing file: Tiny ImageNet's archive under its own name."""
    is_archive = path is not None and Path(path).name == Path(TINY_IMAGENET.address).name
    return TINY_IMAGENET if name == "tiny_imagenet" and is_archive and not Path(str(path)).exists() else None
