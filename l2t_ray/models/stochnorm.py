"""StochNorm's network (Kou et al., NeurIPS 2020): a coin for each channel chooses the statistics that normalise it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from l2t_ray.models.backbone import Backbone, BatchNorm
from l2t_ray.models.traced import Both, Tensors, Traced


class StochNorm(BatchNorm):
    """A batch norm that, in training, normalises some channels by the running statistics.

    Attributes:
        by_batch: whether the batch's statistics normalise a channel, [C]; None for all.
    """

    by_batch: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Returns x [B, C, H, W], normalised."""
        y = super().forward(input)
        if not self.training or self.by_batch is None:
            return y
        mean, variance = self.running_mean, self.running_var
        other = F.batch_norm(input, mean, variance, self.weight, self.bias, False, 0.0, self.eps)
        return torch.where(self.by_batch[:, None, None], y, other)


class StochNormed(Traced):
    """The passes of a network whose batch norms toss a coin for each channel and batch.

    Args:
        module: the network; its own parameters are never read.
        p: the probability of the batch's statistics.
    """

    def __init__(self, module: Backbone, p: float) -> None:
        super().__init__(module)
        for norm in self._norms.values():
            norm.__class__ = StochNorm
        self._training = _Tossing(self._training.network, p)

    @property
    def n_draws(self) -> int:
        """One for each channel of a batch norm; those of a batch's first image count."""
        return sum(norm.num_features for norm in self._norms.values())

    def _running(self, statistics: Tensors) -> dict[str, Tensor]:
        """Returns the running statistics before the batch."""
        return {name: values.clone() for name, values in self._all_running(statistics).items()}


class _Tossing(Both):
    """A network that tosses the coins of its norms.

    Args:
        network: with `StochNorm`s.
        p: the probability of the batch's statistics.
    """

    def __init__(self, network: Backbone, p: float) -> None:
        super().__init__(network)
        self.p = p

    def forward(self, n_levels: int | None, *inputs: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        x, *draws = inputs
        norms = [part for part in self.network.modules() if isinstance(part, StochNorm)]
        if draws:
            heads = (draws[0][0] < self.p).split([norm.num_features for norm in norms])
            for norm, own in zip(norms, heads, strict=True):
                norm.by_batch = own
        found = super().forward(n_levels, x)
        for norm in norms:
            norm.by_batch = None
        return found
