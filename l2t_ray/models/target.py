"""The values that the passes over a target hand to one another; the letters are those of `l2t_ray.models.chain`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from l2t_ray.models.layer import Tangent

Tensors = Mapping[str, Tensor]


@dataclass
class Values:
    """The results of a forward pass; lists have one entry for each convolution, or for each level."""

    inputs: list[Tensor] = field(default_factory=list)
    normal: list[Tensor] = field(default_factory=list)
    rstd: list[Tensor] = field(default_factory=list)
    scales: list[Tensor] = field(default_factory=list)  # s = g rstd
    outputs: list[Tensor] = field(default_factory=list)
    pool_indices: list[Tensor] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    pooled: Tensor | None = None
    logits: Tensor | None = None

    def of(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns x, u and y of a convolution."""
        return self.inputs[index], self.normal[index], self.outputs[index]


@dataclass
class Adjoints:
    """What a backward pass keeps for its tangent: by convolution a, the raw kernel gradient (if any) and mean(u gy).

    A network whose passes torch.func makes (`models.traced`) keeps the gradients that it was given.
    """

    white: dict[int, Tensor] = field(default_factory=dict)
    kernel: dict[int, Tensor | None] = field(default_factory=dict)
    overlap: dict[int, Tensor] = field(default_factory=dict)
    features: Sequence[Tensor | None] = ()
    logits: Tensor | None = None


@dataclass
class Tangents:
    """The results of a tangent pass: dx and those of the layer by convolution; features and logits."""

    inputs: list[Tensor | None] = field(default_factory=list)
    layers: list[Tangent] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    pooled: Tensor | None = None
    logits: Tensor | None = None


class Network(Protocol):
    """The target's four passes; `l2t_ray.models.chain.Chain` documents them."""

    def forward(self, theta: Tensors, x: Tensor, *, n_levels: int | None = None) -> Values:
        """Returns features and logits."""

    def backward(
        self,
        theta: Tensors,
        values: Values,
        feature_gradients: Sequence[Tensor | None],
        logit_gradient: Tensor | None = None,
        adjoints: Adjoints | None = None,
    ) -> dict[str, Tensor]:
        """Returns the gradient at theta."""

    def tangent(
        self,
        theta: Tensors,
        direction: Tensors,
        values: Values,
        *,
        adjoints: Adjoints | None = None,
        n_levels: int | None = None,
    ) -> Tangents:
        """Returns the derivatives of features and logits along a direction."""

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
        """Returns the derivative of the gradient along the direction."""
