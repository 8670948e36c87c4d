"""The passes of `models.traced` part by part: what a part computes is not kept, but computed again when it is needed.

A forward pass keeps what each part hands on to the next one, and nothing else. The passes back go from the last part
to the first. Each computes its part again, so the memory is that of the largest part (Chen et al. 2016, arXiv
1604.06174). `torch.utils.checkpoint` does so for plain gradients alone: its hooks do not work within `torch.func`.

| symbol | code | meaning, for part i |
| --- | --- | --- |
| x | given[i] | what part i takes; x of part 0 are the images |
| g | at_x | the gradient at x |
| d... | ... | derivative along a direction of the parameters |
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from l2t_ray.models.target import Adjoints, Tangents, Values
from l2t_ray.models.traced import Tensors, Traced, note_statistics
from l2t_ray.models.zoo import Zoo

Own = dict[str, Tensor]


@dataclass
class PartValues(Values):
    """The results of a forward pass, with what each part takes."""

    given: list[Tensor] = field(default_factory=list)


class Recomputed(Traced):
    """The passes of a network of torchvision, with little memory.

    Args:
        module: the network; its own parameters are never read.
    """

    def __init__(self, module: Zoo) -> None:
        super().__init__(module)
        network = copy.deepcopy(module).train()
        self._part = _Part(network)
        for norm in self._norms_of(network).values():
            norm.is_pure = True
        parts = [segment.modules for segment in module.plan.segments]
        self._names = [
            [name for name in self.names if any(name == f"body.{m}" or name.startswith(f"body.{m}.") for m in modules)]
            for modules in parts
        ]
        self._names.append([name for name in self.names if name.startswith("fc.")])
        self._n_maps = [*(segment.n_levels for segment in module.plan.segments), 0]

    def forward(
        self,
        theta: Tensors,
        x: Tensor,
        *,
        statistics: Tensors | None = None,
        n_levels: int | None = None,
        draws: Tensor | None = None,
    ) -> PartValues:
        """Computes the network's values with batch statistics; see `Traced.forward`."""
        values = PartValues()
        with torch.no_grad():
            for index in self._parts(n_levels):
                values.given.append(x)
                x, maps = self._run(index, self._own_of(index, theta), x)
                values.features += maps
            noted = self._take_noted()
        values.features = values.features[:n_levels]
        values.logits = x if n_levels is None else None
        if statistics is not None:
            note_statistics(self._norms, noted, statistics)
        return values

    def backward(
        self,
        theta: Tensors,
        values: Values,
        feature_gradients: Sequence[Tensor | None],
        logit_gradient: Tensor | None = None,
        adjoints: Adjoints | None = None,
    ) -> dict[str, Tensor]:
        """Returns the gradient at theta; see `Traced.backward`."""
        assert isinstance(values, PartValues)
        if adjoints is not None:
            adjoints.features, adjoints.logits = feature_gradients, logit_gradient
        gradients: dict[str, Tensor] = {}
        at_x = logit_gradient
        for index, at_maps in self._back(values, feature_gradients):
            if at_x is None and all(gradient is None for gradient in at_maps):
                continue
            with torch.enable_grad():
                own = {name: p.detach().requires_grad_() for name, p in self._own_of(index, theta).items()}
                x = values.given[index].detach().requires_grad_(index > 0)
                out, maps = self._run(index, own, x)
            reached = [(o, g) for o, g in zip([out, *maps], [at_x, *at_maps], strict=True) if g is not None]
            leaves = [*own.values(), *([x] if index > 0 else [])]
            found = torch.autograd.grad([o for o, _ in reached], leaves, [g for _, g in reached], allow_unused=True)
            gradients |= {name: g for name, g in zip(own, found, strict=False) if g is not None}
            at_x = found[-1] if index > 0 else None
            del out, maps, reached, found  # else they would live beside the next part's
        self._take_noted()
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
        """Returns the derivatives of features and logits along a direction; see `Traced.tangent`."""
        assert isinstance(values, PartValues)
        tangents, moved = Tangents(), list[Tensor]()  # `moved` is empty for the images, which do not move
        for index in self._parts(n_levels):
            tangents.inputs += moved or [None]
            primals = (self._own_of(index, theta), *([values.given[index]] if moved else []))
            moves = (self._own_of(index, direction), *moved)

            def part(own: Own, x: Tensor = values.given[index], index: int = index) -> tuple[Tensor, list[Tensor]]:
                return self._run(index, own, x)

            with sdpa_kernel(SDPBackend.MATH):
                dx, maps = torch.func.jvp(part, primals, moves)[1]
            moved = [dx]
            tangents.features += maps
        self._take_noted()
        tangents.features = tangents.features[:n_levels]
        tangents.logits = moved[0] if n_levels is None else None
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
        """Returns the derivative of `backward`'s result along a direction; see `Traced.backward_tangent`."""
        assert isinstance(values, PartValues)
        products: dict[str, Tensor] = {}
        at_x, d_at_x = adjoints.logits, logit_tangent
        moved = iter([*self._back(values, feature_tangents)])
        for index, at_maps in self._back(values, adjoints.features):
            d_at_maps = next(moved)[1]
            outputs, d_outputs = [at_x, *at_maps], [d_at_x, *d_at_maps]
            places = [place for place, gradient in enumerate(outputs) if gradient is not None]
            if not places:
                continue
            given, dx = values.given[index], tangents.inputs[index]
            inputs = [] if dx is None else [given]  # the images need no gradient

            def pull(
                own: Own,
                inputs: list[Tensor],
                at_outputs: list[Tensor],
                index: int = index,
                given: Tensor = given,
                places: Sequence[int] = places,
            ) -> tuple[Own, list[Tensor]]:
                def reached(own: Own, inputs: list[Tensor]) -> list[Tensor]:
                    out, maps = self._run(index, own, inputs[0] if inputs else given)
                    return [[out, *maps][place] for place in places]

                at_own, at_inputs = torch.func.vjp(reached, own, inputs)[1](at_outputs)
                return at_own, at_inputs

            primals = self._own_of(index, theta), inputs, [outputs[place] for place in places]
            moves = (
                self._own_of(index, direction),
                [] if dx is None else [dx],
                [d_outputs[place] for place in places],
            )
            with sdpa_kernel(SDPBackend.MATH):
                (_, at_inputs), (product, d_at_inputs) = torch.func.jvp(pull, primals, moves)[:2]
            products |= product
            at_x, d_at_x = (at_inputs[0], d_at_inputs[0]) if inputs else (None, None)
        self._take_noted()
        return products

    def _parts(self, n_levels: int | None) -> Iterator[int]:
        """Yields the parts that the first levels need; the last part is the classifier."""
        found = 0
        for index, n_maps in enumerate(self._n_maps):
            if n_levels is not None and found >= n_levels:
                return
            yield index
            found += n_maps

    def _back(
        self, values: PartValues, at_features: Sequence[Tensor | None]
    ) -> Iterator[tuple[int, list[Tensor | None]]]:
        """Yields the parts of a forward pass from the last to the first, each with what belongs to its maps."""
        end = sum(self._n_maps[: len(values.given)])
        known = [*at_features, *[None] * (end - len(at_features))]
        for index in range(len(values.given) - 1, -1, -1):
            start = end - self._n_maps[index]
            yield index, known[start:end]
            end = start

    def _own_of(self, index: int, tensors: Tensors) -> Own:
        return {name: tensors[name] for name in self._names[index]}

    def _run(self, index: int, own: Own, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns what a part hands on, and the maps within it."""
        named = {f"network.{name}": tensor for name, tensor in own.items()}
        out, maps = torch.func.functional_call(self._part, named, (index, x))
        return out, maps

    def _take_noted(self) -> list[tuple[Tensor, Tensor]]:
        """Returns the batch statistics of the last pass, and forgets them."""
        norms = self._norms_of(self._part.network).values()
        noted = [norm.noted for norm in norms if norm.noted is not None]
        for norm in norms:
            norm.noted = None
        return noted


class _Part(nn.Module):
    """A network of which one part is run, as `functional_call` needs it."""

    def __init__(self, network: Zoo) -> None:
        super().__init__()
        self.network = network

    def forward(self, index: int, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        segments = self.network.plan.segments
        if index == len(segments):
            return self.network.fc(x), []
        return segments[index].function(self.network.body, x)
