"""What a library of networks answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

PRETRAINED = "pretrained"  # the library's own choice among a network's weights
N_LEVELS, MOST_LEVELS = 4, 6  # taken by default from networks with more than the second


@dataclass(frozen=True)
class Known:
    """What a library knows of a network."""

    levels: tuple[str, ...]  # that are taken where none are named
    n_bytes: int  # of its weights
    head: str  # its last layer
    is_linear: bool  # whether that is one linear layer
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None  # mean and deviation that its weights expect


class File(NamedTuple):
    """One file of weights on the Hugging Face hub."""

    repository: str
    name: str
    licence: str
    revision: str | None = None  # a commit; the newest if None


class Hub(Protocol):
    """A library of networks, whose names begin with its prefix."""

    prefix: ClassVar[str]
    pattern: ClassVar[str]  # of its networks' names
    form: ClassVar[str]  # of its networks' names, for messages
    library: ClassVar[str]
    is_traced: ClassVar[bool]  # whether its networks' graphs are cut into segments

    def problem(self, arch: str) -> str | None:
        """Returns what is wrong with a network's name, after the setting's; None where nothing is."""

    def known(self, arch: str) -> Known:
        """Returns what the library knows of a network; allocates nothing."""

    def make(self, arch: str, n_classes: int, image_size: int) -> Any:
        """Returns a network that takes images alone and returns logits, for images of a size."""

    def weights_of(self, arch: str) -> Mapping[str, File]:
        """Returns a network's weights by tag; empty where the library is not installed."""

    def tag_of(self, arch: str, weights: str | None) -> str | None:
        """Returns the tag that `weights` means, or None where it is no tag of this network."""

    def read(self, path: Path, arch: str, tag: str, image_size: int) -> dict[str, Any]:
        """Returns the tensors of the library's own weights by its names, fitted to the images' size.

        Raises:
            InputError: if the file holds another network.
        """


def spread(places: list[str]) -> tuple[str, ...]:
    """Returns places for levels: all, or of many four at equal distances, the last among them."""
    if len(places) < MOST_LEVELS:
        return tuple(places)
    return tuple(places[(n + 1) * len(places) // N_LEVELS - 1] for n in range(N_LEVELS))
