"""Images on disk become tensors of bytes, and a seed chooses which of them a run trains on."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from l2t_ray.data.load import load_data

__all__ = ["load_data"]


def __getattr__(name: str) -> Any:
    """Imports `load_data` when it is first used (PEP 562): other modules of this room need no torch."""
    if name != "load_data":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from l2t_ray.data.load import load_data

    return load_data
