"""The target network as a chain: values, adjoints, tangents, and the tangents of the adjoints.

Nothing here uses autograd, so each pass is one sweep over the layers and the activations of the gradient serve its
Hessian-vector product too.

| symbol | code | meaning, for the convolution l of a level |
| --- | --- | --- |
| x, w | inputs, conv.l.weight | input and kernel; z = conv(x, w) |
| u | normal | z whitened by batch statistics: (z - mean) * rstd |
| y | outputs | relu(g u + b), g and b the batch norm's weight and bias |
| P(q) | layer.whiten | q - mean(q) - u mean(u q): the adjoint of whitening, up to rstd, and its tangent |
| a | adjoints | P(gradient at g u + b); the gradient at z is s a with s = g rstd |
| d... | ... | derivative along a direction of the parameters |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from l2t_ray.models import convolutions, layer
from l2t_ray.models.convolutions import convolve, scales_maps
from l2t_ray.models.target import Adjoints, Tangents, Values

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Chain:
    """A chain of conv, batch norm, ReLU; a max-pool after each level; global average pool; one linear layer."""

    levels: tuple[tuple[int, ...], ...]  # output channels of each level's convolutions
    n_classes: int  # outputs of the linear layer
    # type in which convolutions multiply (bfloat16); the parameters' if None. Everything else, sums included, stays in
    # the parameters' type
    operands: torch.dtype | None = None

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of every convolution, in order."""
        return tuple(n for level in self.levels for n in level)

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of T^n(x)."""
        return tuple(level[-1] for level in self.levels)

    def forward(
        self,
        theta: Tensors,
        x: Tensor,
        *,
        statistics: Tensors | None = None,
        n_levels: int | None = None,
    ) -> Values:
        """Computes the chain's values with batch statistics.

        Args:
            theta: parameters.
            x: images [B, 3, 32, 32].
            statistics: running mean and variance to update in place (`initial_statistics`), or None.
            n_levels: stop after this many levels, without logits; all levels and the logits by default.

        Returns:
            The values of every layer.
        """
        values, index = Values(), 0
        for level in self.levels[:n_levels]:
            for _ in level:
                g, b = theta[f"bn.{index}.weight"], theta[f"bn.{index}.bias"]
                x = x.to(self.operands or x.dtype)  # once for all products of x
                values.inputs.append(x)
                z = convolve(x, theta[f"conv.{index}.weight"], self.operands)
                running = (
                    (None, None) if statistics is None else (statistics[f"mean.{index}"], statistics[f"var.{index}"])
                )
                u, rstd, s, x = layer.forward(z, g, b, *running)
                values.normal.append(u)
                values.rstd.append(rstd)
                values.scales.append(s)
                values.outputs.append(x)
                index += 1
            values.features.append(x)
            x, indices = torch.ops.aten.max_pool2d_with_indices(x, [2, 2], [2, 2])
            values.pool_indices.append(indices)
        if n_levels is None:
            values.pooled = x.mean((2, 3))
            values.logits = torch.addmm(theta["fc.bias"], values.pooled, theta["fc.weight"].mT)
        return values

    def backward(
        self,
        theta: Tensors,
        values: Values,
        feature_gradients: Sequence[Tensor | None],
        logit_gradient: Tensor | None = None,
        adjoints: Adjoints | None = None,
    ) -> dict[str, Tensor]:
        """Returns the gradient at theta of a loss, from its gradients at features and logits.

        Args:
            theta: parameters.
            values: what `forward` returned.
            feature_gradients: by level [B, C, H, W] or None; may be overwritten.
            logit_gradient: [B, N] or None.
            adjoints: filled, if given, for `backward_tangent`.

        Returns:
            Gradients by name, without the layers that the loss does not reach.
        """
        gradients: dict[str, Tensor] = {}
        g_pool = None
        if logit_gradient is not None:
            assert values.pooled is not None
            gradients["fc.weight"] = logit_gradient.mT @ values.pooled
            gradients["fc.bias"] = logit_gradient.sum(0)
            g_pool = _spread(logit_gradient @ theta["fc.weight"], values)
            if adjoints is not None:
                adjoints.logits = logit_gradient
        index = len(values.inputs)
        for level in range(len(values.features) - 1, -1, -1):
            gy = feature_gradients[level]
            if g_pool is not None:
                gy = layer.unpool((g_pool,), values.features[level], values.pool_indices[level], gy)
            for _ in self.levels[level]:
                index -= 1
                if gy is None:
                    continue
                w, x, u, y = theta[f"conv.{index}.weight"], *values.of(index)
                s = values.scales[index]
                adjoint = layer.backward(gy, y, u, s, scales_maps=scales_maps(u, w))
                a = adjoint.white
                kernel, raw, gy = convolutions.gradients(a, s, adjoint.scaled, x, w, self.operands, at_input=index > 0)
                gradients[f"conv.{index}.weight"] = kernel
                gradients[f"bn.{index}.weight"] = adjoint.at_weight
                gradients[f"bn.{index}.bias"] = adjoint.at_bias
                if adjoints is not None:
                    adjoints.white[index], adjoints.kernel[index] = a, raw
                    adjoints.overlap[index] = adjoint.overlap
            g_pool = gy
        return gradients

    def tangent(
        self,
        theta: Tensors,
        direction: Tensors,
        values: Values,
        *,
        adjoints: Adjoints | None = None,
        n_levels: int | None = None,
    ) -> Tangents:
        """Returns the derivatives of the chain's values along a direction of the parameters.

        Args:
            theta: parameters.
            direction: a tensor for every parameter.
            values: what `forward` returned.
            adjoints: what `backward` filled, if `backward_tangent` is to follow.
            n_levels: stop after this many levels, without logits.

        Returns:
            The tangents of features and logits, and what `backward_tangent` needs.
        """
        tangents, index = Tangents(), 0
        dx: Tensor | None = None  # images do not depend on theta
        for level in range(len(self.levels[:n_levels])):
            for _ in self.levels[level]:
                x, u, y = values.of(index)
                dz = convolve(x, direction[f"conv.{index}.weight"], self.operands)
                more = () if dx is None else (convolve(dx, theta[f"conv.{index}.weight"], self.operands),)
                tangents.inputs.append(dx)
                moved = layer.tangent(
                    (dz, *more),
                    u,
                    y,
                    values.scales[index],
                    direction[f"bn.{index}.weight"],
                    direction[f"bn.{index}.bias"],
                    None if adjoints is None else adjoints.white.get(index),
                )
                dx = moved.output
                tangents.layers.append(moved)
                index += 1
            assert dx is not None
            tangents.features.append(dx)
            if n_levels is None or level + 1 < n_levels:
                dx = _pool(dx, values, level)
        if n_levels is None:
            assert dx is not None
            assert values.pooled is not None
            tangents.pooled = dx.mean((2, 3))
            tangents.logits = torch.addmm(direction["fc.bias"], tangents.pooled, theta["fc.weight"].mT)
            tangents.logits = tangents.logits + values.pooled @ direction["fc.weight"].mT
        return tangents

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
        """Returns the derivative of `backward`'s result along a direction: a Hessian-vector product.

        Args:
            theta: parameters.
            direction: the vector, a tensor for every parameter.
            values: what `forward` returned.
            adjoints: what `backward` filled.
            tangents: what `tangent` returned for this direction.
            feature_tangents: derivatives of `backward`'s feature_gradients; may be overwritten.
            logit_tangent: derivative of `backward`'s logit_gradient.

        Returns:
            Products by name, without the layers that the loss does not reach.
        """
        products: dict[str, Tensor] = {}
        at_pool: tuple[Tensor, ...] = ()
        if logit_tangent is not None:
            assert adjoints.logits is not None
            assert values.pooled is not None
            assert tangents.pooled is not None
            products["fc.weight"] = logit_tangent.mT @ values.pooled + adjoints.logits.mT @ tangents.pooled
            products["fc.bias"] = logit_tangent.sum(0)
            at_pooled = logit_tangent @ theta["fc.weight"] + adjoints.logits @ direction["fc.weight"]
            at_pool = (_spread(at_pooled, values),)
        index = len(values.inputs)
        for level in range(len(values.features) - 1, -1, -1):
            given = feature_tangents[level]
            dgy: tuple[Tensor, ...] = () if given is None else (given,)
            if at_pool:
                dgy = (layer.unpool(at_pool, values.features[level], values.pool_indices[level], given),)
            for _ in self.levels[level]:
                index -= 1
                if not dgy:
                    continue
                w, dw = theta[f"conv.{index}.weight"], direction[f"conv.{index}.weight"]
                x, u, y = values.of(index)
                a, s = adjoints.white[index], values.scales[index]
                moved = layer.backward_tangent(
                    dgy,
                    y,
                    u,
                    s,
                    direction[f"bn.{index}.weight"],
                    values.rstd[index],
                    a,
                    adjoints.overlap[index],
                    tangents.layers[index],
                    scales_maps=scales_maps(u, w),
                )
                products[f"bn.{index}.weight"], products[f"bn.{index}.bias"] = moved.at_weight, moved.at_bias
                products[f"conv.{index}.weight"], dgy = convolutions.gradient_tangents(
                    a, s, moved, x, tangents.inputs[index], w, dw, adjoints.kernel[index], self.operands
                )
            at_pool = dgy
        return products

    def predict(self, theta: Tensors, statistics: Tensors, x: Tensor) -> Tensor:
        """Returns logits [B, N] with running statistics.

        Args:
            theta: parameters.
            statistics: running mean and variance of every batch norm, [C] each.
            x: images [B, 3, 32, 32].
        """
        index = 0
        for level in self.levels:
            for _ in level:
                x = convolve(x, theta[f"conv.{index}.weight"], self.operands)
                g, b = theta[f"bn.{index}.weight"], theta[f"bn.{index}.bias"]
                x = layer.rectified(x, g, b, statistics[f"mean.{index}"], statistics[f"var.{index}"])
                index += 1
            x = F.max_pool2d(x, 2)
        return torch.addmm(theta["fc.bias"], x.mean((2, 3)), theta["fc.weight"].mT)

    def initial_statistics(self, like: Tensor) -> dict[str, Tensor]:
        """Returns running means (zero) and variances (one), [C] each, with `like`'s device and type."""
        means = {f"mean.{i}": like.new_zeros(n) for i, n in enumerate(self.channels)}
        return means | {f"var.{i}": like.new_ones(n) for i, n in enumerate(self.channels)}


def _spread(g_pooled: Tensor, values: Values) -> Tensor:
    """Returns the gradient [B, C, h, w] of a global average from that of its result [B, C]."""
    height, width = values.pool_indices[-1].shape[2:]
    return (g_pooled[..., None, None] / (height * width)).expand(-1, -1, height, width)


def _pool(dy: Tensor, values: Values, level: int) -> Tensor:
    """Passes a tangent through a max-pool: takes the entry that was the largest."""
    indices = values.pool_indices[level]
    picked = dy.permute(0, 2, 3, 1).flatten(1, 2).gather(1, indices.permute(0, 2, 3, 1).flatten(1, 2))
    maps: Tensor = picked.unflatten(1, indices.shape[2:])
    return maps.permute(0, 3, 1, 2)
