"""A network with one level more: what its last layer takes, or what a second last layer makes of it."""

import torch
from torch import Tensor, nn

from l2t_ray.models.backbone import Backbone
from l2t_ray.models.traced import Both, Traced


class Headed(Traced):
    """The passes of a network whose last level are its last features, as maps [B, C, 1, 1].

    Args:
        module: the network; its own parameters are never read.
        n_outputs: of a second last layer, `second.weight` and `second.bias`, whose outputs are the level instead.
    """

    def __init__(self, module: Backbone, n_outputs: int | None = None) -> None:
        if n_outputs is not None:
            module.add_module("second", nn.Linear(module.fc.in_features, n_outputs))
        super().__init__(module)
        self._training = _WithLast(self._training.network)
        self._n_channels = n_outputs or module.fc.in_features

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of T^n(x), the last features' included."""
        return (*self.module.channels, self._n_channels)

    @property
    def feature_sizes(self) -> tuple[int, ...]:
        """H = W of T^n(x), the last features' included."""
        return (*self.module.sizes, 1)


class LastFeatures:
    """Notes what a network's last layer takes, [B, C], while it is open."""

    def __init__(self, network: Backbone) -> None:
        self.network = network
        self.noted = torch.empty(0)

    def __enter__(self) -> "LastFeatures":
        def note(_: nn.Module, given: tuple[Tensor]) -> None:
            (self.noted,) = given

        self._handle = self.network.fc.register_forward_pre_hook(note)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()


class _WithLast(Both):
    """A network that returns its last features, or what its second last layer makes of them, as one map more."""

    def forward(self, n_levels: int | None, *inputs: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        if n_levels is not None:
            return super().forward(n_levels, *inputs)
        with LastFeatures(self.network) as last:
            maps, logits = super().forward(n_levels, *inputs)
        second = getattr(self.network, "second", None)
        return [*maps, (last.noted if second is None else second(last.noted))[..., None, None]], logits
