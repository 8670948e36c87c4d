"""The networks by name and what a configuration has to know of them: how many levels, and of which size.

A level is a place whose feature maps can teach or be taught, counted from 0 at the images' end.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

Arch = Literal["vgg9", "vgg11", "resnet20", "resnet32", "resnet44", "resnet56", "vit"]

VIT_BLOCKS, VIT_PATCHES = 6, 8  # blocks; patches along each side of an image
SIZES: Mapping[str, tuple[int, ...]] = {  # H = W of every level's maps, for images of 32 x 32
    "vgg9": (32, 16, 8, 4, 2),
    "vgg11": (32, 16, 8, 4, 2),
    "resnet20": (32, 16, 8),
    "resnet32": (32, 16, 8),
    "resnet44": (32, 16, 8),
    "resnet56": (32, 16, 8),
    "vit": (VIT_PATCHES,) * VIT_BLOCKS,
}
BF16_TARGETS = ("vgg9", "vgg11")  # targets that can round what their convolutions multiply

Levels = Sequence[tuple[int, int]]


def resolve_pairs(
    pairs: str | Levels,
    source_sizes: Sequence[int] = SIZES["resnet32"],
    target_sizes: Sequence[int] = SIZES["vgg9"],
) -> tuple[tuple[int, int], ...]:
    """The pairs (m, n) of source and target levels behind a name.

    Args:
        pairs: "all", "one_to_one" (levels of equal size, the last with the last), "single" (the last of each), or a
            list.
        source_sizes: H = W of every source level; the thesis' by default.
        target_sizes: H = W of every target level; the thesis' by default.

    Returns:
        The pairs, ascending and unique: 15, 3 and 1 for the thesis' networks.
    """
    if pairs == "all":
        return tuple((m, n) for m in range(len(source_sizes)) for n in range(len(target_sizes)))
    if pairs == "single":
        return ((len(source_sizes) - 1, len(target_sizes) - 1),)
    if pairs == "one_to_one":
        found: list[tuple[int, int]] = []
        for size in set(source_sizes):
            here = [m for m, other in enumerate(source_sizes) if other == size]
            there = [n for n, other in enumerate(target_sizes) if other == size]
            found += zip(reversed(here), reversed(there), strict=False)
        return tuple(sorted(found))
    assert not isinstance(pairs, str), pairs
    return tuple(sorted({(m, n) for m, n in pairs}))


def missing_level(pairs: str | Levels, source: str, target: str) -> str | None:
    """What is wrong with a list of pairs for two architectures.

    Args:
        pairs: as in a configuration.
        source: the source's architecture.
        target: the target's.

    Returns:
        The law and the value; None where every level exists.
    """
    if isinstance(pairs, str):
        return None
    ends = [len(SIZES[name]) - 1 for name in (source, target)]
    wrong = [pair for pair in pairs if pair[0] > ends[0] or pair[1] > ends[1]]
    if not wrong:
        return None
    law = f"must name source levels 0 to {ends[0]} of {source} and target levels 0 to {ends[1]} of {target}"
    return f"{law}, got {', '.join(f'[{m}, {n}]' for m, n in wrong)}"
