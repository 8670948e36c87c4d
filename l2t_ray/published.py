"""Files that others have published: their addresses, sizes, digests and licences, so that they are fetched by name.

A digest was computed from the file, or is the one by which others know it; a file with another digest is refused.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from l2t_ray.hubs import PRETRAINED, hub_of

FOLDER = Path("weights")  # of fetched weights, in the working folder
SLASH = "--"  # in a file's name; no repository's name has it


@dataclass(frozen=True)
class Published:
    """One published file."""

    what: str  # for messages
    address: str
    n_bytes: int
    digest: str  # `sha256:` or `md5:` and the hex digits, or the first of them
    licence: str
    arch: str = ""  # of weights: the network, at width 1
    client: Literal["torch.hub", "huggingface_hub"] | None = None  # that fetches it into its own cache; else we do
    revision: str | None = None  # on the Hugging Face hub, the newest if None; the digest there is `LIBRARY:NAME.TAG`


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


_IMAGENET = "BSD 3-Clause; the images of ImageNet are for research and education only"
_SWAG = "CC BY-NC 4.0, Meta"
ADDRESS = "https://download.pytorch.org/models/"
# torchvision's weights by architecture and by their name in torchvision's own enumeration: the file, whose name has the
# first digits of its SHA-256, its MiB, and its licence
TORCHVISION: Mapping[str, Mapping[str, tuple[str, float, str]]] = {
    "resnet18": {"IMAGENET1K_V1": ("resnet18-f37072fd.pth", 44.661, _IMAGENET)},
    "resnet34": {"IMAGENET1K_V1": ("resnet34-b627a593.pth", 83.275, _IMAGENET)},
    "resnet50": {
        "IMAGENET1K_V1": ("resnet50-0676ba61.pth", 97.781, _IMAGENET),
        "IMAGENET1K_V2": ("resnet50-11ad3fa6.pth", 97.79, _IMAGENET),
    },
    "vgg16_bn": {"IMAGENET1K_V1": ("vgg16_bn-6c64b313.pth", 527.866, _IMAGENET)},
    "mobilenet_v3_small": {"IMAGENET1K_V1": ("mobilenet_v3_small-047dcff4.pth", 9.829, _IMAGENET)},
    "mobilenet_v3_large": {
        "IMAGENET1K_V1": ("mobilenet_v3_large-8738ca79.pth", 21.114, _IMAGENET),
        "IMAGENET1K_V2": ("mobilenet_v3_large-5c1a4163.pth", 21.107, _IMAGENET),
    },
    "convnext_tiny": {"IMAGENET1K_V1": ("convnext_tiny-983f1562.pth", 109.119, _IMAGENET)},
    "vit_b_16": {
        "IMAGENET1K_V1": ("vit_b_16-c867db91.pth", 330.285, _IMAGENET),
        "IMAGENET1K_SWAG_E2E_V1": ("vit_b_16_swag-9ac1b537.pth", 331.398, _SWAG),
        "IMAGENET1K_SWAG_LINEAR_V1": ("vit_b_16_lc_swag-4e70ced5.pth", 330.285, _SWAG),
    },
}


def hub_folder() -> Path:
    """Returns the folder in which torch.hub keeps weights; other programs' are found there."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("TORCH_HOME") or f"{cache}/torch").expanduser() / "hub" / "checkpoints"


def weights_file(arch: str, weights: str | None) -> str | None:
    """Returns the file that `weights` means: torchvision's by the enumeration's name, else what is given."""
    hub = hub_of(arch)
    if hub is not None and weights is not None and (tag := hub.tag_of(arch, weights)):
        name = f"{arch.replace('/', SLASH)}.{tag}{Path(hub.weights_of(arch)[tag].name).suffix}"
        return str(hub_folder() / name)
    found = TORCHVISION.get(arch, {}).get(weights or "")
    return weights if found is None else str(hub_folder() / found[0])


def official_weights(arch: str) -> tuple[str, ...]:
    """Returns the names of the weights that a network's library has for it."""
    hub = hub_of(arch)
    names = [PRETRAINED, *hub.weights_of(arch)] if hub else []
    return tuple(dict.fromkeys([*names, *TORCHVISION.get(arch, {})]))


def official_tag(arch: str, path: Path) -> str | None:
    """Returns the tag of a hub's weights in a file that a launch has fetched; None of any other file."""
    hub, (network, _, tag) = hub_of(arch), path.stem.rpartition(".")
    is_official = hub is not None and network == arch.replace("/", SLASH) and tag in hub.weights_of(arch)
    return tag if is_official else None


def _hub_weights(path: Path) -> Published | None:
    arch = path.stem.rpartition(".")[0].replace(SLASH, "/")
    hub, tag = hub_of(arch), official_tag(arch, path)
    if hub is None or tag is None or path.parent != hub_folder():
        return None
    name, file = arch.removeprefix(hub.prefix), hub.weights_of(arch)[tag]
    return Published(
        f"{hub.library}'s {name} {tag}",
        f"{file.repository}/{file.name}",
        hub.known(arch).n_bytes,
        f"{hub.prefix.rstrip('/')}:{name}.{tag}",
        file.licence,
        arch,
        client="huggingface_hub",
        revision=file.revision,
    )


def weights_place(name: str) -> Path:
    """Returns the file of published weights; it may not exist yet."""
    return FOLDER / f"{name}.pth.tar"


def named_weights(value: str) -> str:
    """Returns the file that `source.weights` means: a published file's own for its name, else what is given."""
    return str(weights_place(value)) if value in WEIGHTS and not Path(value).is_file() else value


def weights_at(path: str) -> Published | None:
    """Returns what is published for a file of weights, if it is one to fetch."""
    if found := _hub_weights(Path(path)):
        return found
    for arch, by_name in TORCHVISION.items():
        for name, (file, n_mib, licence) in by_name.items():
            if path == str(hub_folder() / file):
                digits = file.removesuffix(".pth").rpartition("-")[2]
                what = f"torchvision's {arch} {name}"
                return Published(
                    what, ADDRESS + file, round(n_mib * 2**20), f"sha256:{digits}", licence, arch, client="torch.hub"
                )
    return {str(weights_place(name)): found for name, found in WEIGHTS.items()}.get(path)


def images_at(name: str, path: str | None) -> Published | None:
    """Returns what is published for a data set's missing file: Tiny ImageNet's archive under its own name."""
    is_archive = path is not None and Path(path).name == Path(TINY_IMAGENET.address).name
    return TINY_IMAGENET if name == "tiny_imagenet" and is_archive and not Path(str(path)).exists() else None
