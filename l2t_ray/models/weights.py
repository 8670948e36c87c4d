"""Files of weights: `l2t_ray.pretrain` writes them, runs read them; also reads the published L2T-ww checkpoint."""

import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from l2t_ray.config import Source
from l2t_ray.errors import InputError
from l2t_ray.models.backbone import Backbone
from l2t_ray.models.build import build
from l2t_ray.models.resnet import STAGE_CHANNELS

# The published checkpoint's block1, blocks2.0-3, block3, ... are our stages.0.0, stages.0.1-4, stages.1.0, ...
_PUBLISHED = (
    (re.compile(r"^block([135])\."), lambda match: f"stages.{(int(match[1]) - 1) // 2}.0."),
    (re.compile(r"^blocks([246])\.(\d+)\."), lambda match: f"stages.{int(match[1]) // 2 - 1}.{int(match[2]) + 1}."),
)


def source_state(network: Backbone) -> dict[str, Any]:
    """Returns the content of a weights file; `load_source` reads it with `weights_only=True`."""
    return {
        "arch": network.arch,
        "width": network.width,
        "num_classes": network.n_classes,
        "classes": list(network.classes or ()),
        "history": [dict(part) for part in network.history],
        "state_dict": network.state_dict(),
    }


def load_source(settings: Source) -> Backbone:
    """Reads the frozen source network from a weights file, ours or the published L2T-ww checkpoint, on the CPU.

    Args:
        settings: architecture, width and the file.

    Returns:
        The network in eval mode, its parameters without gradient.

    Raises:
        InputError: if the file is missing, damaged, or of another network.
    """
    if settings.weights is None:
        raise InputError("source.weights: a method with a source needs a file of weights; name one")
    path = Path(settings.weights)
    if not path.is_file():
        raise InputError(f"{path}: source.weights does not exist; train one with python -m l2t_ray.pretrain FILE")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        state = {_our_name(name): tensor for name, tensor in loaded["state_dict"].items()}
        n_classes, n_inputs = state["fc.weight"].shape
    except Exception as error:  # torch raises half a dozen kinds for damaged files
        found = "cut short, or no weights"
        if isinstance(error, UnpicklingError):
            found = "more than tensors and plain values"
        raise InputError(f"{path}: is not a readable file of weights, got {found}; fetch or train it again") from error
    network = build(settings.arch, settings.width, n_classes)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        held = f"{loaded.get('arch', 'unknown')}, width {loaded.get('width', n_inputs / STAGE_CHANNELS[-1])}"
        asked = f"{settings.arch}, width {settings.width}"
        raise InputError(f"{path}: source must match the weights, which are {held}; got {asked}") from error
    network.classes = tuple(loaded.get("classes", ())) or None
    network.history = tuple(loaded.get("history", ()))
    return network.requires_grad_(False).eval()


def _our_name(published: str) -> str:
    for pattern, replacement in _PUBLISHED:
        published = pattern.sub(replacement, published)
    return published
