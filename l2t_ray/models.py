"""Networks: the source ResNet as a module, the target VGG-9 as a list of blocks for `l2t_ray.chain`.

Source S: three stages, S^m(x) is the output of stage m's last block. Target T: T^n(x) is the activation just before the
n-th max-pool. Inputs are 3 x 32 x 32. Architecture: He et al. 2016 (CIFAR ResNet), thesis section 5.2.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name every reader of torch code expects)

from l2t_ray.chain import Chain
from l2t_ray.config import Source, Target
from l2t_ray.errors import InputError

STAGE_CHANNELS = (16, 32, 64)
VGG9 = ((64,), (128,), (256, 256), (512, 512), (512, 512))  # one tuple a level; a 2 x 2 max-pool ends each

# The published checkpoint's block1, blocks2.0-3, block3, ... are our stages.0.0, stages.0.1-4, stages.1.0, ...
_PUBLISHED = (
    (re.compile(r"^block([135])\."), lambda found: f"stages.{(int(found[1]) - 1) // 2}.0."),
    (re.compile(r"^blocks([246])\.(\d+)\."), lambda found: f"stages.{int(found[1]) // 2 - 1}.{int(found[2]) + 1}."),
)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm and an identity or 1 x 1 shortcut."""

    def __init__(self, n_inputs: int, n_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_inputs, n_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_channels)
        self.conv2 = nn.Conv2d(n_channels, n_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or n_inputs != n_channels:
            shortcut = nn.Conv2d(n_inputs, n_channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(n_channels))

    def forward(self, x: Tensor) -> Tensor:
        """The block's output [B, n_channels, H / stride, W / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        residual: Tensor = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(residual + shortcut)


class ResNet(nn.Module):
    """A CIFAR-style residual network of 6 n + 2 layers with three stages.

    Args:
        depth: 20, 32, 44 or 56.
        width: factor on the channels.
        n_classes: outputs of the last layer.
    """

    def __init__(self, depth: int, width: float, n_classes: int) -> None:
        super().__init__()
        channels = [max(1, round(width * n)) for n in STAGE_CHANNELS]
        self.depth, self.width, self.n_classes, self.channels = depth, width, n_classes, tuple(channels)
        self.conv1 = nn.Conv2d(3, channels[0], 3, 1, 1)
        self.bn1 = nn.BatchNorm2d(channels[0])
        n_blocks = (depth - 2) // 6
        self.stages = nn.ModuleList(
            nn.Sequential(
                BasicBlock(before, after, 1 if after == channels[0] and stage == 0 else 2),
                *(BasicBlock(after, after, 1) for _ in range(n_blocks - 1)),
            )
            for stage, (before, after) in enumerate(zip([channels[0], *channels], channels, strict=False))
        )
        self.fc = nn.Linear(channels[-1], n_classes)

    def features(self, x: Tensor) -> list[Tensor]:
        """S^m(x) for m = 0, 1, 2: [B, C_m, 32 / 2^m, 32 / 2^m] each, for x [B, 3, 32, 32]."""
        x = F.relu(self.bn1(self.conv1(x)))
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, n_classes] of images [B, 3, 32, 32]."""
        logits: Tensor = self.fc(self.features(x)[-1].mean((2, 3)))
        return logits


def target_chain(target: Target, n_classes: int) -> Chain:
    """The target network.

    Args:
        target: architecture and width.
        n_classes: classes of the data set.

    Returns:
        Its levels and classes.
    """
    return Chain(tuple(tuple(max(1, round(target.width * n)) for n in level) for level in VGG9), n_classes)


def initial_theta(chain: Chain, generator: torch.Generator) -> dict[str, Tensor]:
    """The target's initial parameters: He (fan-out) convolutions, N(0, 0.01) linear layer, batch norm at identity.

    Convolutions carry no bias: batch norm follows each, which cancels it.

    Args:
        chain: the target network.
        generator: a CPU generator, stream "init".

    Returns:
        float32 tensors: conv.<l>.weight [O, I, 3, 3], bn.<l>.weight, bn.<l>.bias [O], fc.weight [N, C], fc.bias [N].
    """
    theta: dict[str, Tensor] = {}
    n_inputs = 3
    for index, n_outputs in enumerate(chain.channels):
        scale = (2 / (9 * n_outputs)) ** 0.5
        theta[f"conv.{index}.weight"] = scale * torch.randn(n_outputs, n_inputs, 3, 3, generator=generator)
        theta[f"bn.{index}.weight"] = torch.ones(n_outputs)
        theta[f"bn.{index}.bias"] = torch.zeros(n_outputs)
        n_inputs = n_outputs
    theta["fc.weight"] = 0.01 * torch.randn(chain.n_classes, n_inputs, generator=generator)
    theta["fc.bias"] = torch.zeros(chain.n_classes)
    return theta


def resnet(depth: int, width: float, n_classes: int) -> ResNet:
    """A source network with PyTorch's default initialisation; see `initialise`."""
    return ResNet(depth, width, n_classes)


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draws a module's weights from a generator: He (fan-out) convolutions, N(0, 0.01) linear layers, zero biases.

    Args:
        module: changed in place.
        generator: a CPU generator.
    """
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
                layer.weight.copy_((2 / fan_out) ** 0.5 * torch.randn(layer.weight.shape, generator=generator))
            elif isinstance(layer, nn.Linear):
                layer.weight.copy_(0.01 * torch.randn(layer.weight.shape, generator=generator))
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
                layer.bias.zero_()


def source_state(network: ResNet) -> dict[str, Any]:
    """What a weights file holds; `load_source` reads it with `weights_only=True`."""
    return {
        "arch": f"resnet{network.depth}",
        "width": network.width,
        "num_classes": network.n_classes,
        "state_dict": network.state_dict(),
    }


def load_source(settings: Source) -> ResNet:
    """The frozen source network from its weights file, ours or the published L2T-ww checkpoint, on the CPU.

    Args:
        settings: architecture, width and the file.

    Returns:
        The network in eval mode, its parameters without gradient.

    Raises:
        InputError: if the file is missing, damaged, or of another chain.
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
        message = str(error).splitlines()[0]
        raise InputError(f"{path}: is not a readable file of weights ({message}); fetch or train it again") from error
    network = ResNet(int(settings.arch.removeprefix("resnet")), settings.width, n_classes)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        told = f"{loaded.get('arch', 'unknown')}, width {loaded.get('width', n_inputs / STAGE_CHANNELS[-1])}"
        asked = f"{settings.arch}, width {settings.width}"
        raise InputError(f"{path}: source must match the weights, which are {told}; got {asked}") from error
    return network.requires_grad_(False).eval()


def _our_name(published: str) -> str:
    for pattern, replacement in _PUBLISHED:
        published = pattern.sub(replacement, published)
    return published
