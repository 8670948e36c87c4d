"""Networks of other libraries by name, with their weights on the Hugging Face hub; the libraries are extras."""

from l2t_ray.hubs.hub import PRETRAINED, File, Hub, Known
from l2t_ray.hubs.of_timm import Timm
from l2t_ray.hubs.of_transformers import Transformers

__all__ = ["HUBS", "PATTERN", "PRETRAINED", "File", "Hub", "Known", "hub_of"]

HUBS: tuple[Hub, ...] = (Timm(), Transformers())
PATTERN = "|".join(f"^{hub.pattern}$" for hub in HUBS)  # of all networks' names


def hub_of(arch: str) -> Hub | None:
    """Returns where a network is from; None for torchvision's and our own."""
    return next((hub for hub in HUBS if arch.startswith(hub.prefix)), None)
