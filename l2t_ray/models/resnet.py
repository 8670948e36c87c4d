"""CIFAR-style residual networks (He et al. 2016): three stages; a level is the output of a stage's last block."""

from torch import Tensor, nn

from l2t_ray.models.backbone import Backbone, BasicBlock, BatchNorm, rectified, scaled

STAGE_CHANNELS = (16, 32, 64)


class ResNet(Backbone):
    """A CIFAR-style residual network of 6 n + 2 layers with three stages.

    Args:
        depth: 20, 32, 44 or 56.
        width: factor on the channels.
        n_classes: outputs of the last layer.
    """

    def __init__(self, depth: int, width: float, n_classes: int) -> None:
        channels = [scaled(width, n) for n in STAGE_CHANNELS]
        super().__init__(f"resnet{depth}", width, n_classes, channels)
        self.conv1 = nn.Conv2d(3, channels[0], 3, 1, 1)
        self.bn1 = BatchNorm(channels[0])
        n_blocks = (depth - 2) // 6
        self.stages = nn.ModuleList(
            nn.Sequential(
                BasicBlock(before, after, 1 if after == channels[0] and stage == 0 else 2),
                *(BasicBlock(after, after, 1) for _ in range(n_blocks - 1)),
            )
            for stage, (before, after) in enumerate(zip([channels[0], *channels], channels, strict=False))
        )
        self.fc = nn.Linear(channels[-1], n_classes)

    @property
    def blocks(self) -> list[list[nn.Module]]:
        """The residual blocks of every stage."""
        return [list(stage.children()) for stage in self.stages]

    def features(self, x: Tensor, n_levels: int | None = None, draws: Tensor | None = None) -> list[Tensor]:
        """Returns [B, C_m, H / 2^m, W / 2^m] for m = 0, 1, 2, for x [B, 3, H, W]."""
        x = rectified(self.bn1, self.conv1(x))
        outputs = []
        for stage in self.stages[:n_levels]:
            x = stage(x)
            outputs.append(x)
        return outputs

    def classify(self, last: Tensor) -> Tensor:
        """Applies global average pooling and the linear layer."""
        logits: Tensor = self.fc(last.mean((2, 3)))
        return logits
