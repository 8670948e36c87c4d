"""timm's networks by name, `timm/NAME`: their levels, and their weights on the Hugging Face hub; timm is an extra."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from l2t_ray.errors import InputError, suggest

TIMM = "timm/"
PRETRAINED = "pretrained"  # timm's own choice among a network's weights
FILE = "model.safetensors"  # on the hub, where timm's configuration names no other
N_LEVELS, MOST_LEVELS = 4, 6  # taken by default from networks with more than the second


@dataclass(frozen=True)
class Known:
    """What timm knows of a network."""

    levels: tuple[str, ...]  # that are taken where none are named
    n_bytes: int  # of its weights
    head: str  # its last layer
    is_linear: bool  # whether that is one linear layer
    mean: tuple[float, ...]
    std: tuple[float, ...]


def in_timm(arch: str) -> bool:
    """Whether an architecture is one of timm."""
    return arch.startswith(TIMM)


def timm() -> Any:
    """Returns timm.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        rule = "arch must be a network that is installed, for timm/... needs the package timm"
        raise InputError(f"{rule}, got no module {error.name!r}; pip install 'l2t-ray[timm]'") from error
    return timm


def problem(arch: str) -> str | None:
    """Returns what is wrong with `timm/NAME`, after the setting's name; None where nothing is."""
    try:
        names = timm().list_models()
    except InputError as error:
        return error.problems[0].removeprefix("arch ")
    name = arch.removeprefix(TIMM)
    if name not in names:
        near = suggest(arch, [f"{TIMM}{known}" for known in names], listed=["what timm.list_models() returns"])
        return f"must be a network of timm {timm().__version__}, got {arch!r}; {near}"
    if not known(arch).is_linear:
        rule = "must be a network of timm whose classifier is one linear layer"
        return f"{rule}, got {arch!r} with {known(arch).head or 'none'}; take another network"
    return None


def make(arch: str, n_classes: int | None, image_size: int, **more: Any) -> Any:
    """Returns a network of timm, for images of a size where its parameters depend on it.

    Args:
        arch: `timm/NAME`.
        n_classes: outputs of its last layer; as many as its weights have if None.
        image_size: H = W of the images.
        **more: as `timm.create_model` takes it.
    """
    name = more.pop("name", arch.removeprefix(TIMM))
    more |= {} if n_classes is None else {"num_classes": n_classes}
    try:
        return timm().create_model(name, img_size=image_size, **more)
    except TypeError:  # most networks take images of every size, and no such argument
        return timm().create_model(name, **more)


@lru_cache(maxsize=64)
def known(arch: str) -> Known:
    """Returns what timm knows of `timm/NAME`; allocates nothing."""
    import torch

    with torch.device("meta"):
        network = timm().create_model(arch.removeprefix(TIMM))
    cfg = network.pretrained_cfg
    places = [str(info["module"]) for info in getattr(network, "feature_info", [])]
    if len(places) > MOST_LEVELS - 1:
        places = [places[(n + 1) * len(places) // N_LEVELS - 1] for n in range(N_LEVELS)]
    head = cfg.get("classifier")
    parts = dict(network.named_modules())
    is_linear = isinstance(head, str) and isinstance(parts.get(head), torch.nn.Linear)
    n_bytes = sum(p.numel() * 4 for p in network.parameters())
    return Known(tuple(places), n_bytes, str(head or ""), is_linear, tuple(cfg["mean"]), tuple(cfg["std"]))


@lru_cache(maxsize=64)
def weights_of(arch: str) -> Mapping[str, tuple[str, str, str]]:
    """Returns a network's weights by tag: repository on the hub, file, licence; `pretrained` is timm's own choice."""
    name, found = arch.removeprefix(TIMM), {}
    try:
        if name not in timm().list_models():
            return {}
    except InputError:  # not installed: the network itself is refused
        return {}
    for full in timm().list_pretrained(f"{name}.*"):
        cfg = timm().get_pretrained_cfg(full, allow_unregistered=False)
        if cfg.hf_hub_id:
            found[cfg.tag] = (cfg.hf_hub_id, cfg.hf_hub_filename or FILE, cfg.license or "its page has the licence")
    return found


def tag_of(arch: str, weights: str | None) -> str | None:
    """Returns the tag that `weights` means, or None where it is no tag of this network."""
    if weights == PRETRAINED and weights_of(arch):
        cfg = timm().get_pretrained_cfg(arch.removeprefix(TIMM))
        weights = None if cfg is None else cfg.tag
    return weights if weights in weights_of(arch) else None
