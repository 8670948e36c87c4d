"""What the passes over a target leave for one another; the letters are those of `l2t_ray.chain`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

Tensors = Mapping[str, Tensor]


@dataclass
class Values:
    """What a forward pass leaves for the others; lists have one entry a convolution, or one a level."""

    inputs: list[Tensor] = field(default_factory=list)
    normal: list[Tensor] = field(default_factory=list)
    rstd: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    pool_indices: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    pooled: Tensor | None = None
    logits: Tensor | None = None


@dataclass
class Adjoints:
    """What a backward pass leaves for its tangent: by convolution a, the raw kernel gradient (if any) and mean(u gy).

    A network without convolutions of its own (`models.traced`) keeps the gradients that it was given.
    """

    white: dict[int, Tensor] = field(default_factory=dict)
    kernel: dict[int, Tensor | None] = field(default_factory=dict)
    overlap: dict[int, Tensor] = field(default_factory=dict)
    features: Sequence[Tensor | None] = ()
    logits: Tensor | None = None


@dataclass
class Tangents:
    """What a tangent pass leaves: by convolution dx, du / rstd, mean(u dz) and mean(a dz); features and logits."""

    inputs: list[Tensor | None] = field(default_factory=list)
    white: list[Tensor] = field(default_factory=list)
    stretch: list[Tensor] = field(default_factory=list)
    overlap: list[Tensor | None] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    pooled: Tensor | None = None
    logits: Tensor | None = None


class Network(Protocol):
    """The target's four passes; `l2t_ray.chain.Chain` documents them."""

    def forward(self, theta: Tensors, x: Tensor, *, n_levels: int | None = None) -> Values:
        """Features and logits."""

    def backward(
        self,
        theta: Tensors,
        values: Values,
        feature_gradients: Sequence[Tensor | None],
        logit_gradient: Tensor | None = None,
        adjoints: Adjoints | None = None,
    ) -> dict[str, Tensor]:
        """The gradient at theta."""

    def tangent(
        self,
        theta: Tensors,
        direction: Tensors,
        values: Values,
        *,
        adjoints: Adjoints | None = None,
        n_levels: int | None = None,
    ) -> Tangents:
        """Derivatives of features and logits along a direction."""

    def backward_tangent(
        self,
        theta: Tensors,
        direction: Tensors,
        values: Values,
        adjoints: Adjoints,
        tangents: Tangents,
        feature_tangents: Sequence[Tensor | None],
        logit_tangent: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The derivative of the gradient along the direction."""
