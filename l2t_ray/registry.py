"""What a sweep file may name: methods, networks and data sets, and what a configuration has to know of each.

A level of a network is a place whose feature maps can teach or be taught, counted from 0 at the images' end.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

from pydantic import Field

from l2t_ray.errors import InputError
from l2t_ray.files import FreshSource
from l2t_ray.hubs import PATTERN, hub_of

BUILTIN = "l2t_ray.methods"
Scalar = bool | int | float | str
OfHub = Annotated[str, Field(pattern=PATTERN)]
Arch = (
    OfHub
    | Literal[
        "vgg9",
        "vgg11",
        "resnet20",
        "resnet32",
        "resnet44",
        "resnet56",
        "vit",
        "resnet18",
        "resnet34",
        "resnet50",
        "vgg16_bn",
        "mobilenet_v3_small",
        "mobilenet_v3_large",
        "convnext_tiny",
        "vit_b_16",
    ]
)

IMAGE_SIZE = 32  # H = W of images
VIT_BLOCKS, VIT_PATCHES = 6, 8  # blocks; patches along each side of an image of 32 x 32
SIZES: Mapping[str, tuple[int, ...]] = {  # H = W of every level's maps, for images of 32 x 32
    "vgg9": (32, 16, 8, 4, 2),
    "vgg11": (32, 16, 8, 4, 2),
    "resnet20": (32, 16, 8),
    "resnet32": (32, 16, 8),
    "resnet44": (32, 16, 8),
    "resnet56": (32, 16, 8),
    "vit": (VIT_PATCHES,) * VIT_BLOCKS,
}
# torchvision's networks: the levels that are taken where none are named, as places of
# `torchvision.models.feature_extraction`
_STAGES = ("layer1", "layer2", "layer3", "layer4")
ZOO: Mapping[str, tuple[str, ...]] = {
    "resnet18": _STAGES,
    "resnet34": _STAGES,
    "resnet50": _STAGES,
    "vgg16_bn": tuple(f"features.{place}" for place in (5, 12, 22, 32, 42)),  # before each max-pool
    "mobilenet_v3_small": tuple(f"features.{place}" for place in (1, 3, 8, 12)),
    "mobilenet_v3_large": tuple(f"features.{place}" for place in (3, 6, 12, 16)),
    "convnext_tiny": tuple(f"features.{place}" for place in (1, 3, 5, 7)),
    "vit_b_16": tuple(f"encoder.layers.encoder_layer_{place}" for place in (2, 5, 8, 11)),
}


def has_places(arch: str) -> bool:
    """Whether a network's levels can be chosen, as those of other libraries' networks can."""
    return arch in ZOO or hub_of(arch) is not None


def default_levels(arch: str) -> tuple[str, ...]:
    """Returns the levels that are taken where none are named, of a network whose levels can be chosen."""
    hub = hub_of(arch)
    return ZOO[arch] if hub is None else hub.known(arch).levels


BF16_TARGETS = ("vgg9", "vgg11")  # targets that can round what their convolutions multiply

Levels = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Facts:
    """What is known of a data set before its files are read; None and () where only the files show it."""

    n_classes: int | None = None
    classes: tuple[str, ...] = ()
    least_train: int | None = None  # training images of the smallest class
    n_test: int = 10_000
    has_path: bool = False  # whether its images come from `data.path`


DATA_SETS: Mapping[str, Facts] = {  # their readers: l2t_ray/data/sets.py
    "cifar10": Facts(
        10, ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"), 5000
    ),
    "cifar100": Facts(100, (), 500),
    "stl10": Facts(
        10, ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"), 500, n_test=8000
    ),
    "tiny_imagenet": Facts(200, (), 500, has_path=True),
    "image_folder": Facts(has_path=True),
    "digits": Facts(10, tuple("0123456789"), 87, n_test=896),  # 87: half of the 174 eights
}


class Described(Protocol):
    """What the configuration has to know of a method; `l2t_ray.methods.Method` adds how it is trained."""

    @property
    def name(self) -> str:
        """The name in the sweep file's `method:`."""

    @property
    def uses(self) -> frozenset[str]:
        """The optional settings that can change the result: "source", "transfer.beta", "transfer.pairs", ..."""

    @property
    def options(self) -> Mapping[str, Scalar]:
        """The method's own settings (`options:` of a run) with their defaults."""

    def laws(self, run: Any) -> Iterable[tuple[str, str]]:
        """Yields (setting, what is wrong; remedy) for settings of a run that contradict each other."""


CODE_DIGITS = 12
METHODS: dict[str, Described] = {}
CODE: dict[str, dict[str, str]] = {}  # by method from a file: the file's name, and the start of its SHA-256
AnyMethod = TypeVar("AnyMethod", bound=Described)


def register(method: AnyMethod) -> AnyMethod:
    """Adds a method under its name and returns it; loading the same file twice replaces it."""
    METHODS[method.name] = method
    return method


def load(modules: Iterable[str | Path] = ()) -> None:
    """Imports the built-in methods and then the given modules, each of which registers its methods.

    Args:
        modules: importable names, or paths of Python files (a sweep file's `methods:`).

    Raises:
        InputError: if a file does not exist, cannot be imported, or registers a built-in method's name; its methods are
            removed again.
    """
    for module in (BUILTIN, *modules):
        if not isinstance(module, Path) and not module.endswith(".py"):
            importlib.import_module(module)
            continue
        path = Path(module).resolve()
        name = f"l2t_ray_user_methods.{path.stem}"
        if getattr(sys.modules.get(name), "__file__", None) == str(path):
            continue
        spec = importlib.util.spec_from_file_location(name, path, loader=FreshSource(name, str(path)))
        if spec is None or spec.loader is None or not path.is_file():
            raise InputError(f"{module}: methods: names a Python file that does not exist; correct the path")
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[name] = loaded
        before = dict(METHODS)
        try:
            content = path.read_bytes()
            spec.loader.exec_module(loaded)
            own = [key for key, method in METHODS.items() if before.get(key) is not method]
            for key in own:
                if key in before and key not in CODE:
                    rule = "register must not be given the name of a built-in method"
                    raise InputError(f"{module}: {rule}, got {key!r}; choose another")
        except Exception as error:
            del sys.modules[name]
            METHODS.clear()
            METHODS.update(before)
            if isinstance(error, InputError):
                raise
            raise InputError(f"{module}: cannot be imported as a file of methods: {error!r}") from error
        digest = hashlib.sha256(content).hexdigest()[:CODE_DIGITS]
        CODE.update({key: {path.name: digest} for key in own})


def resolve_pairs(
    pairs: str | Levels,
    source_sizes: Sequence[int] = SIZES["resnet32"],
    target_sizes: Sequence[int] = SIZES["vgg9"],
) -> tuple[tuple[int, int], ...]:
    """Returns the pairs (m, n) of source and target levels that a name or a list stands for, ascending and unique.

    Args:
        pairs: "all", "one_to_one" (levels of equal size, the last with the last), "single" (the last of each), or a
            list; 15, 3 and 1 pairs for the thesis' networks.
        source_sizes: H = W of every source level; the thesis' by default.
        target_sizes: H = W of every target level; the thesis' by default.

    Raises:
        InputError: if no levels are of equal size, and "one_to_one" is asked for.
    """
    if pairs == "all":
        return tuple((m, n) for m in range(len(source_sizes)) for n in range(len(target_sizes)))
    if pairs == "single":
        return ((len(source_sizes) - 1, len(target_sizes) - 1),)
    if pairs == "one_to_one":
        matched: list[tuple[int, int]] = []
        for size in set(source_sizes):
            sources = [m for m, other in enumerate(source_sizes) if other == size]
            targets = [n for n, other in enumerate(target_sizes) if other == size]
            matched += zip(reversed(sources), reversed(targets), strict=False)
        if not matched:
            sizes = " and ".join(", ".join(map(str, side)) for side in (source_sizes, target_sizes))
            rule = "source and target must have levels of equal size, to be matched one to one"
            raise InputError(f"{rule}, got maps of {sizes} pixels; choose other `levels` or transfer.pairs")
        return tuple(sorted(matched))
    assert not isinstance(pairs, str), pairs
    return tuple(sorted({(m, n) for m, n in pairs}))


def network_problems(section: str, arch: str, width: float, levels: Sequence[str] | None) -> Iterable[tuple[str, str]]:
    """Yields (setting, what is wrong; remedy) for settings of a network that contradict each other.

    Args:
        section: "source" or "target".
        arch: the network.
        width: factor on the channels.
        levels: as chosen, or None.
    """
    hub = hub_of(arch)
    if hub is not None and (problem := hub.problem(arch)):
        yield f"{section}.arch", problem
    if has_places(arch) and width != 1:
        yield f"{section}.width", f"must be 1 for {arch}, got {width:g}; leave it out"
    if not has_places(arch) and levels is not None:
        rule = f"must be left out for {arch}, whose levels cannot be chosen"
        yield f"{section}.levels", f"{rule}, got {', '.join(levels)}; remove it, or take one of {', '.join(ZOO)}"


def recompute_problem(arch: str, *, recompute: bool) -> str | None:
    """Returns why a target cannot compute its parts again; None where it can, or need not."""
    hub = hub_of(arch)
    if not recompute or arch in ZOO or (hub is not None and hub.is_traced):
        return None
    return f"must be false for {arch}, got true; leave it out, or take {', '.join(ZOO)}"


def level_sizes(arch: str, image_size: int = IMAGE_SIZE) -> tuple[int, ...]:
    """Returns H = W of every level's maps of a network whose levels cannot be chosen.

    Args:
        arch: one of `SIZES`.
        image_size: H = W of the images.
    """
    if arch == "vit":
        return (image_size * VIT_PATCHES // IMAGE_SIZE,) * VIT_BLOCKS
    sizes = [image_size]
    for _ in SIZES[arch][1:]:  # a ResNet's strides round up, a VGG's pools round down
        sizes.append((sizes[-1] + arch.startswith("resnet")) // 2)
    return tuple(sizes)


def n_levels(arch: str, levels: Sequence[str] | None = None) -> int:
    """Returns how many levels a network has."""
    return len(SIZES[arch]) if arch in SIZES else len(levels or default_levels(arch))


def missing_level(
    pairs: str | Levels, source: str, target: str, chosen: Sequence[Sequence[str] | None] = (None, None)
) -> str | None:
    """Returns which levels a list of pairs may name, and which it names wrongly; None where all levels exist.

    Args:
        pairs: as `resolve_pairs`.
        source: architecture of the source.
        target: architecture of the target.
        chosen: the settings `levels` of both.
    """
    if isinstance(pairs, str):
        return None
    numbers = [n_levels(arch, levels) for arch, levels in zip((source, target), chosen, strict=True)]
    ends = [n - 1 for n in numbers]
    wrong = [pair for pair in pairs if pair[0] > ends[0] or pair[1] > ends[1]]
    if not wrong:
        return None
    rule = f"must name source levels 0 to {ends[0]} of {source} and target levels 0 to {ends[1]} of {target}"
    return f"{rule}, got {', '.join(f'[{m}, {n}]' for m, n in wrong)}"
