"""timm's networks by name, `timm/NAME`: their levels, and their weights on the Hugging Face hub."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from l2t_ray.errors import InputError, suggest
from l2t_ray.hubs.hub import PRETRAINED, File, Hub, Known, spread

FILE = "model.safetensors"  # on the hub, where timm's configuration names no other


class Timm(Hub):
    """timm: a newer version may have another network's code, or another choice of `pretrained`."""

    prefix: ClassVar[str] = "timm/"
    pattern: ClassVar[str] = r"timm/\w+"
    form: ClassVar[str] = "timm/NAME"
    library: ClassVar[str] = "timm"
    is_traced: ClassVar[bool] = True

    def problem(self, arch: str) -> str | None:
        """Returns what is wrong with `timm/NAME`, after the setting's name; None where nothing is."""
        try:
            names = _timm().list_models()
        except InputError as error:
            return error.problems[0].removeprefix("arch ")
        if arch.removeprefix(self.prefix) not in names:
            near = suggest(
                arch, [f"{self.prefix}{known}" for known in names], listed=["what timm.list_models() returns"]
            )
            return f"must be a network of timm {_timm().__version__}, got {arch!r}; {near}"
        if not self.known(arch).is_linear:
            rule = "must be a network of timm whose classifier is one linear layer"
            return f"{rule}, got {arch!r} with {self.known(arch).head or 'none'}; take another network"
        return None

    def known(self, arch: str) -> Known:
        """Returns what timm knows of `timm/NAME`; allocates nothing."""
        return _known(arch.removeprefix(self.prefix))

    def make(self, arch: str, n_classes: int, image_size: int) -> Any:
        """Returns a network of timm that takes images alone: other arguments would be inputs of its graph."""
        network = _make(arch.removeprefix(self.prefix), image_size, num_classes=n_classes)
        kind = type(network)

        def forward(self: Any, x: Any) -> Any:
            return kind.forward(self, x)

        network.__class__ = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
        return network

    def weights_of(self, arch: str) -> Mapping[str, File]:
        """Returns a network's weights by tag; `pretrained` is timm's own choice."""
        return _weights_of(arch.removeprefix(self.prefix))

    def tag_of(self, arch: str, weights: str | None) -> str | None:
        """Returns the tag that `weights` means, or None where it is no tag of this network."""
        if weights == PRETRAINED and self.weights_of(arch):
            cfg = _timm().get_pretrained_cfg(arch.removeprefix(self.prefix))
            weights = None if cfg is None else cfg.tag
        return weights if weights in self.weights_of(arch) else None

    def read(self, path: Path, arch: str, tag: str, image_size: int) -> dict[str, Any]:
        """Returns the tensors of timm's own weights by its names, fitted to the images' size by timm's code."""
        name, given = f"{arch.removeprefix(self.prefix)}.{tag}", {"file": str(path), "custom_load": False}
        try:
            network = _make(name, image_size, pretrained=True, pretrained_cfg_overlay=given)
        except Exception as error:  # torch's and safetensors' for another file, some of several kinds
            rule = f"{path}: must be timm's {name}"
            remedy = "remove it, and launch again"
            raise InputError(f"{rule}, got another network, or no file of weights; {remedy}") from error
        return dict(network.state_dict())


def _timm() -> Any:
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


def _make(name: str, image_size: int, **more: Any) -> Any:
    """Returns a network of timm, for images of a size where its parameters depend on it."""
    try:
        return _timm().create_model(name, img_size=image_size, **more)
    except TypeError:  # most networks take images of every size, and no such argument
        return _timm().create_model(name, **more)


@lru_cache(maxsize=64)
def _known(name: str) -> Known:
    import torch

    with torch.device("meta"):
        network = _timm().create_model(name)
    cfg = network.pretrained_cfg
    places = [str(info["module"]) for info in getattr(network, "feature_info", [])]
    head = cfg.get("classifier")
    parts = dict(network.named_modules())
    is_linear = isinstance(head, str) and isinstance(parts.get(head), torch.nn.Linear)
    n_bytes = sum(p.numel() * 4 for p in network.parameters())
    return Known(spread(places), n_bytes, str(head or ""), is_linear, (tuple(cfg["mean"]), tuple(cfg["std"])))


@lru_cache(maxsize=64)
def _weights_of(name: str) -> Mapping[str, File]:
    found: dict[str, File] = {}
    try:
        if name not in _timm().list_models():
            return {}
    except InputError:  # not installed: the network itself is refused
        return {}
    for full in _timm().list_pretrained(f"{name}.*"):
        cfg = _timm().get_pretrained_cfg(full, allow_unregistered=False)
        if cfg.hf_hub_id:
            licence = cfg.license or "its page has the licence"
            found[cfg.tag] = File(cfg.hf_hub_id, cfg.hf_hub_filename or FILE, licence)
    return found
