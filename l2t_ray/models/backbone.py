"""What every network has: levels of feature maps, a classifier, and the draw of its initial weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from l2t_ray.errors import InputError
from l2t_ray.models import layer
from l2t_ray.registry import IMAGE_SIZE, level_sizes


class Backbone(nn.Module):
    """A network with levels; its architecture defines `features` and `classify`, and the last layer is always `fc`.

    Args:
        arch: its name.
        width: factor on the channels.
        n_classes: outputs of the last layer.
        channels: of every level's maps.
    """

    fc: nn.Linear
    n_draws = 0  # uniform random numbers for every image in training; `features` takes them as [B, n_draws]
    linear_std = 0.01  # of the initial weights of linear layers and embeddings
    image_size = IMAGE_SIZE  # H = W of the images
    # mean and standard deviation by channel of the images that its weights expect; None for the project's own constants
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def __init__(self, arch: str, width: float, n_classes: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.arch, self.width, self.n_classes, self.channels = arch, width, n_classes, tuple(channels)
        self.classes: tuple[str, ...] | None = None  # their names, if the file of weights has them
        self.history: tuple[Mapping[str, Any], ...] = ()  # its trainings in order, as the file lists them

    @property
    def sizes(self) -> tuple[int, ...]:
        """H = W of every level's maps."""
        return level_sizes(self.arch, self.image_size)

    def features(self, x: Tensor, n_levels: int | None = None, draws: Tensor | None = None) -> list[Tensor]:
        """Returns the maps of the first levels, all by default: [B, C_m, H_m, W_m] each, for x [B, 3, H, W]."""
        raise NotImplementedError

    def classify(self, last: Tensor) -> Tensor:
        """Returns logits [B, n_classes] from the last level's maps."""
        raise NotImplementedError

    def outputs(
        self, x: Tensor, n_levels: int | None = None, draws: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Returns what `features` does, and the logits [B, n_classes] if all levels are asked for."""
        maps = self.features(x, n_levels) if draws is None else self.features(x, n_levels, draws)
        return maps, self.classify(maps[-1]) if n_levels is None else None

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits [B, n_classes] of images [B, 3, H, W]."""
        logits = self.outputs(x)[1]
        assert logits is not None
        return logits

    def redraw(self, generator: torch.Generator) -> None:
        """Draws the initial weights.

        Args:
            generator: a CPU generator.
        """
        initialise(self, generator)


class BatchNorm(nn.BatchNorm2d):
    """torch.nn.BatchNorm2d that can leave the update of its running statistics to the caller.

    Attributes:
        is_pure: in training, note the batch's statistics and change nothing.
        noted: the last batch's mean and unbiased variance, [C] each, where `is_pure`.
    """

    is_pure = False
    noted: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Returns x [B, C, H, W], normalised.

        Raises:
            InputError: if a batch to train on has a single value in each channel.
        """
        n = x.shape[0] * x.shape[2] * x.shape[3]
        if self.training and n == 1:
            rule = "training.batch_size must leave two images or more to the last batch of an epoch"
            why = "where batch norm sees maps of 1 x 1 pixels"
            raise InputError(f"{rule}, {why}, got one; change it or data.samples_per_class, or enlarge data.image_size")
        if not (self.is_pure and self.training):
            return super().forward(x)
        y, mean, rstd = torch.native_batch_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps)
        self.noted = mean, (rstd.pow(-2) - self.eps) * (n / (n - 1))
        return y


def rectified(norm: nn.Module, z: Tensor, more: Tensor | None = None) -> Tensor:
    """Returns relu(norm(z) + more), [B, C, H, W]; in a frozen network's evaluation that is a piece."""
    if type(norm) is BatchNorm and not norm.training and not torch.is_grad_enabled():
        mean, variance = norm.running_mean, norm.running_var
        if mean is not None and variance is not None:
            return layer.rectified(z, norm.weight, norm.bias, mean, variance, more, norm.eps)
    y: Tensor = norm(z)
    return F.relu(y if more is None else y + more)


class Shortcut(nn.Conv2d):
    """A 1 x 1 convolution that takes every `step`-th pixel before it multiplies; the same as a stride.

    With a stride, oneDNN's kernel gradient for channels-last maps of fewer channels than a vector has lanes writes past
    its workspace: wrong gradients, a crash or a hang (uxlfoundation/oneDNN#6035).
    """

    def __init__(self, n_inputs: int, n_channels: int, step: int) -> None:
        super().__init__(n_inputs, n_channels, 1, bias=False)
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        """Returns the maps [B, n_channels, H / step, W / step]."""
        return super().forward(x[:, :, :: self.step, :: self.step])


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm and an identity or 1 x 1 shortcut."""

    def __init__(self, n_inputs: int, n_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_inputs, n_channels, 3, stride, 1, bias=False)
        self.bn1 = BatchNorm(n_channels)
        self.conv2 = nn.Conv2d(n_channels, n_channels, 3, 1, 1, bias=False)
        self.bn2 = BatchNorm(n_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or n_inputs != n_channels:
            self.downsample = nn.Sequential(Shortcut(n_inputs, n_channels, stride), BatchNorm(n_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the block's output [B, n_channels, H / stride, W / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return rectified(self.bn2, self.conv2(rectified(self.bn1, self.conv1(x))), shortcut)


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draws a module's weights: He (fan-out) convolutions, normal linear layers, zero biases.

    Args:
        module: changed in place; `linear_std` is the linear layers' standard deviation, 0.01 if it has none.
        generator: a CPU generator.
    """
    linear_std = getattr(module, "linear_std", Backbone.linear_std)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
                layer.weight.copy_((2 / fan_out) ** 0.5 * torch.randn(layer.weight.shape, generator=generator))
            elif isinstance(layer, nn.Linear | nn.Embedding):
                layer.weight.copy_(linear_std * torch.randn(layer.weight.shape, generator=generator))
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
                layer.bias.zero_()


def scaled(width: float, n_channels: int) -> int:
    """Returns the channels at a width, at least one."""
    return max(1, round(width * n_channels))
