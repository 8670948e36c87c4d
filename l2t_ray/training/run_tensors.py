"""The tensors of one run: parameters, running statistics and the optimizers' states."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from l2t_ray.models.vector import Vector
from l2t_ray.training.start import Start

RunState = dict[str, Any]
_VECTORS = ("theta", "buffers", "phi")  # of a state, each by name; and "statistics", and "moments", with "first."
_MOMENTS = ("first", "second")


class RunTensors:
    """What a step changes, and what the method freezes.

    Args:
        start: the tensors before the first step.
        device: of all tensors.
        dtype: of all tensors.
    """

    def __init__(self, start: Start, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.theta, self.phi = (Vector.of(own, device=device, dtype=dtype) for own in (start.theta, start.phi))
        self.statistics = self._own(start.statistics)
        self.buffers = self.theta.zeros()
        self.first, self.second = self.phi.zeros(), self.phi.zeros()  # moments of Adam
        self.meta_step = torch.zeros((), device=device, dtype=dtype)  # of Adam
        self.frozen: dict[str, Tensor] = {}

    def take(self, start: Start) -> None:
        """Takes another run's tensors before its first step; every tensor stays where it is."""
        for own, tensors in ((self.theta, start.theta), (self.statistics, start.statistics), (self.phi, start.phi)):
            for name, tensor in tensors.items():
                own[name].copy_(tensor)
        for tensor in (self.buffers.flat, self.first.flat, self.second.flat, self.meta_step):
            tensor.zero_()
        self.frozen = {}

    def finite(self) -> Tensor:
        """Returns whether every parameter, trained or frozen, is finite."""
        return _all_finite((self.theta.flat, self.phi.flat, *self.frozen.values()))

    def finite_statistics(self) -> Tensor:
        """Returns whether every running statistic is finite; they overflow while the parameters do not."""
        return _all_finite((self.theta.flat[:0], *self.statistics.values()))  # a transformer has none

    def tensors(self) -> list[Tensor]:
        """Returns every tensor that a step changes, in place."""
        vectors: list[Vector] = [getattr(self, name) for name in (*_VECTORS, *_MOMENTS)]
        return [*(vector.flat for vector in vectors), *self.statistics.values(), self.meta_step]

    def state(self) -> RunState:
        """Returns the run's tensors, on the CPU, as `restore` takes them."""
        state: RunState = {name: _copied(getattr(self, name)) for name in (*_VECTORS, "statistics", "frozen")}
        state["moments"] = {
            f"{order}.{name}": p for order in _MOMENTS for name, p in _copied(getattr(self, order)).items()
        }
        state["meta_step"] = float(self.meta_step)
        return state

    def restore(self, state: RunState) -> None:
        """Continues from what `state` gave."""
        self.frozen = self._own(state["frozen"])
        for group in (*_VECTORS, "statistics"):
            for name, p in getattr(self, group).items():
                p.copy_(state[group][name])
        for order in _MOMENTS:
            for name, p in getattr(self, order).items():
                p.copy_(state["moments"][f"{order}.{name}"])
        self.meta_step.fill_(state["meta_step"])

    def _own(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns contiguous copies, on the device and in the parameters' type."""
        contiguous = torch.contiguous_format
        return {n: p.to(self.device, self.dtype, copy=True, memory_format=contiguous) for n, p in given.items()}


def _all_finite(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack([p.isfinite().all() for p in tensors]).all()


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns copies on the CPU."""
    return {name: p.to("cpu", copy=True) for name, p in tensors.items()}
