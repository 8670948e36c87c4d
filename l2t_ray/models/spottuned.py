"""SpotTune's network (Guo et al., CVPR 2019, arXiv 1811.08737): every residual block twice, and a policy."""

import torch
from torch import Tensor

from l2t_ray.models.backbone import rectified
from l2t_ray.models.resnet import ResNet

POLICY_DEPTH = 8  # one block a stage, as in the authors' code


class SpotTuned(ResNet):
    """A ResNet that has every residual block twice: as the source left it (frozen), and as it is trained (tuned).

    The policy, a small ResNet, gives two scores for every block. The larger one, with Gumbel noise in training, decides
    whether an image takes the frozen (0) or the tuned (1) block. Gradients pass through the softmax at the temperature.

    Args:
        source: a ResNet; its blocks are the frozen ones, in eval mode.
        n_classes: outputs of the last layer.
        temperature: of the Gumbel-softmax.
    """

    def __init__(self, source: ResNet, n_classes: int, temperature: float) -> None:
        super().__init__(int(source.arch.removeprefix("resnet")), source.width, n_classes)
        self.image_size = source.image_size
        self.n_blocks = sum(len(stage) for stage in self.blocks)
        self.n_draws = 2 * self.n_blocks
        self.policy = ResNet(POLICY_DEPTH, source.width, 2 * self.n_blocks)
        self.temperature = temperature
        self.source = (source,)  # a tuple hides its parameters from this module

    def features(self, x: Tensor, n_levels: int | None = None, draws: Tensor | None = None) -> list[Tensor]:
        """Returns a ResNet's features; draws [B, 2 n_blocks] are uniform within [0, 1), None in evaluation."""
        gates = straight_through(self.policy(x).unflatten(1, (self.n_blocks, 2)), draws, self.temperature)
        x = rectified(self.bn1, self.conv1(x))
        outputs, block = [], 0
        for ours, theirs in zip(self.blocks[:n_levels], self.source[0].blocks, strict=False):
            for tuned, frozen in zip(ours, theirs, strict=True):
                gate = gates[:, block, None, None, None]
                x = gate * tuned(x) + (1 - gate) * frozen(x)
                block += 1
            outputs.append(x)
        return outputs


def straight_through(scores: Tensor, draws: Tensor | None, temperature: float) -> Tensor:
    """Returns 0 or 1 by the larger score, with the gradient of the softmax (their eq. 3 to 5; Jang et al. 2017).

    Args:
        scores: [B, L, 2], of frozen and tuned.
        draws: uniform within [0, 1), [B, 2 L], for the Gumbel noise; None for no noise and no gradient.
        temperature: of the softmax.

    Returns:
        [B, L].
    """
    if draws is None:
        return (scores[..., 1] > scores[..., 0]).to(scores.dtype)
    tiny = torch.finfo(draws.dtype).tiny
    noisy = scores - (-draws.clamp_min(tiny).log()).clamp_min(tiny).log().view_as(scores)
    soft = (noisy / temperature).softmax(-1)[..., 1]
    hard = (noisy[..., 1] > noisy[..., 0]).to(scores.dtype)
    return hard + (soft - soft.detach())
