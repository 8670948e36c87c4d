"""VGGs with batch norm and one linear layer: as a chain of explicit passes (target), and as a module (source).

A level is the activation just before a max-pool. The name counts convolutions and the linear layer, as the thesis'
VGG-9 does: VGG-11 here has the ten convolutions of Simonyan and Zisserman's (2015) configuration B.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from l2t_ray.models.backbone import Backbone, BatchNorm, scaled
from l2t_ray.models.chain import Chain
from l2t_ray.registry import IMAGE_SIZE, level_sizes

VGG9 = ((64,), (128,), (256, 256), (512, 512), (512, 512))  # one tuple a level; a 2 x 2 max-pool ends each
VGG11 = ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512))
LEVELS: Mapping[str, tuple[tuple[int, ...], ...]] = {"vgg9": VGG9, "vgg11": VGG11}


class Vgg(Backbone):
    """A VGG as a module; its parameters have the chain's names.

    Args:
        arch: "vgg9" or "vgg11".
        width: factor on the channels.
        n_classes: outputs of the last layer.
    """

    def __init__(self, arch: str, width: float, n_classes: int) -> None:
        self.levels = vgg_levels(arch, width)
        super().__init__(arch, width, n_classes, [level[-1] for level in self.levels])
        outputs = [n for level in self.levels for n in level]
        self.conv = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1, bias=False)
            for before, after in zip([3, *outputs], outputs, strict=False)
        )
        self.bn = nn.ModuleList(BatchNorm(n) for n in outputs)
        self.fc = nn.Linear(outputs[-1], n_classes)

    def features(self, x: Tensor, n_levels: int | None = None, draws: Tensor | None = None) -> list[Tensor]:
        """Returns [B, C_n, H / 2^n, W / 2^n] for n = 0 to 4, for x [B, 3, H, W]."""
        layers = zip(self.conv, self.bn, strict=True)
        outputs: list[Tensor] = []
        for level in self.levels[:n_levels]:
            x = F.max_pool2d(x, 2) if outputs else x
            for _ in level:
                convolution, norm = next(layers)
                x = F.relu(norm(convolution(x)))
            outputs.append(x)
        return outputs

    def classify(self, last: Tensor) -> Tensor:
        """Applies the last max-pool, global average pooling and the linear layer."""
        logits: Tensor = self.fc(F.max_pool2d(last, 2).mean((2, 3)))
        return logits


@dataclass(frozen=True)
class VggTarget(Chain):
    """A VGG as a target: the chain's passes, and what else training needs."""

    image_size: int = IMAGE_SIZE  # H = W of the images

    @property
    def feature_sizes(self) -> tuple[int, ...]:
        """H = W of T^n(x)."""
        return level_sizes("vgg9", self.image_size)

    def initial_theta(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws the initial parameters; see `initial_theta`."""
        return initial_theta(self, generator)

    def values_of(self, module: Backbone) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns a module's parameters and statistics under this target's names.

        Args:
            module: a `Vgg` of the same levels.

        Returns:
            theta, and running means and variances.
        """
        state = module.state_dict()
        theta = {name: p for name, p in state.items() if "running" not in name and "num_batches" not in name}
        pairs = (("mean", "running_mean"), ("var", "running_var"))
        indices = range(len(self.channels))
        return theta, {f"{ours}.{i}": state[f"bn.{i}.{theirs}"] for ours, theirs in pairs for i in indices}


def vgg_levels(arch: str, width: float) -> tuple[tuple[int, ...], ...]:
    """Returns the output channels of the convolutions, by level."""
    return tuple(tuple(scaled(width, n) for n in level) for level in LEVELS[arch])


def initial_theta(chain: Chain, generator: torch.Generator | None) -> dict[str, Tensor]:
    """Draws a target's initial parameters: He (fan-out) convolutions, N(0, 0.01) linear layer, batch norm at identity.

    Convolutions have no bias, because the batch norm behind each would cancel it.

    Args:
        chain: the target network.
        generator: a CPU generator, stream "init"; None where only the shapes are needed.

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
