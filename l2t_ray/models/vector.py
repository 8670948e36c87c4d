"""Named tensors that lie one after another in one vector: what is done to all of them is one operation, not one each.

A kernel [O, I, k, k] lies in the order [O, k, k, I] (channels-last), as the maps that it multiplies do.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

_MAPS = 4  # dimensions of a kernel


class Vector(Mapping[str, Tensor]):
    """Tensors by name, as views of one vector.

    Args:
        flat: all numbers, [n].
        shapes: by name, in the vector's order.
    """

    def __init__(self, flat: Tensor, shapes: Mapping[str, torch.Size]) -> None:
        self.flat, self.shapes = flat, shapes
        self._views: dict[str, Tensor] = {}
        start = 0
        for name, shape in shapes.items():
            self._views[name] = _view(flat[start : start + math.prod(shape)], shape)
            start += math.prod(shape)

    @classmethod
    def of(
        cls,
        tensors: Mapping[str, Tensor],
        *,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> "Vector":
        """Returns a copy of named tensors, on another device and in another type if asked.

        Args:
            tensors: without `device` and `dtype` all of one type and on one device.
            device: of the copy; that of the tensors if None.
            dtype: of the copy; that of the tensors if None.
        """
        parts = [_row(p).to(device, dtype) for p in tensors.values()]
        flat = torch.cat(parts) if parts else torch.empty(0, device=device, dtype=dtype)
        return cls(flat, {name: p.shape for name, p in tensors.items()})

    def like(self, flat: Tensor) -> "Vector":
        """Returns other numbers [n] under the same names."""
        return Vector(flat, self.shapes)

    def zeros(self) -> "Vector":
        """Returns zeros under the same names."""
        return self.like(torch.zeros_like(self.flat))

    def gather(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Returns tensors of these names and shapes as one vector [n]; zero where one is missing."""
        parts: list[Tensor] = []
        missing = 0
        for name, shape in self.shapes.items():
            if name in tensors:
                if missing:
                    parts.append(self.flat.new_zeros(missing))
                    missing = 0
                parts.append(_row(tensors[name]))
            else:
                missing += math.prod(shape)
        if missing:
            parts.append(self.flat.new_zeros(missing))
        return torch.cat(parts) if parts else self.flat.new_zeros(0)

    def spans(self, names: list[str]) -> list[slice]:
        """Returns where the named tensors lie, as few slices as possible."""
        wanted, spans, start = {*names}, list[slice](), 0
        for name, shape in self.shapes.items():
            stop = start + math.prod(shape)
            if name in wanted:
                if spans and spans[-1].stop == start:
                    spans[-1] = slice(spans[-1].start, stop)
                else:
                    spans.append(slice(start, stop))
            start = stop
        return spans

    def __getitem__(self, name: str) -> Tensor:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


def _view(row: Tensor, shape: torch.Size) -> Tensor:
    if len(shape) != _MAPS:
        return row.view(shape)
    n_outputs, n_inputs, height, width = shape
    return row.view(n_outputs, height, width, n_inputs).permute(0, 3, 1, 2)


def _row(tensor: Tensor) -> Tensor:
    return (tensor.permute(0, 2, 3, 1) if tensor.dim() == _MAPS else tensor).reshape(-1)
