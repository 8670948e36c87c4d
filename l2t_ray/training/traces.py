"""Records chosen values during training: entries of the target's weights, and the meta-networks' outputs.

A meta-network's output is a mean over a reference batch: at most 128 of the run's own training images, evenly spread
over its classes, not augmented, the same at every recording. So a curve moves because phi has moved, not because the
images differ; it begins before the first step; and no training step computes anything for it.

| traced | what it is, at one time |
| --- | --- |
| theta.conv.3.weight[0,2,1,1] | that entry |
| lambda.m-n | mean over images of lambda, thesis eq. 5 |
| omega.m-n[c] | mean over images of omega |
| gamma.m-n[c,i,j] | mean over images of gamma on h's 3 x 3 grid; a pixel's gamma is a bilinear mixture of the grid's |
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from l2t_ray.data.place import Images
from l2t_ray.errors import InputError, suggest
from l2t_ray.methods import meta
from l2t_ray.training.learner import Learner
from l2t_ray.training.trace_file import Column, encode

IMAGES = 128
ENTRIES = 8  # traced of a tensor that is named without an index
NETWORK = {"lambda": "where", "omega": "what", "gamma": "which"}
TraceState = dict[str, Any]


class Tracer:
    """Records the traces that a run asks for.

    Args:
        learner: of the run.
        images: the run's training images.
    """

    def __init__(self, learner: Learner, images: Images) -> None:
        self.run, self.learner = learner.run, learner
        asked = [name.partition("@")[0] for name in self.run.traced]
        self.kinds = sorted({name.partition(".")[0] for name in asked})
        self._features = self._reference(images) if {*self.kinds} & {*NETWORK} else []
        self._shapes = self._traceable()
        by_tensor: dict[str, dict[Column, int]] = {}
        for name in asked:
            for column, place in self._columns(name):
                by_tensor.setdefault(column[0], {})[column] = place
        self.columns = [column for own in by_tensor.values() for column in own]
        self._places = {n: torch.tensor([*own.values()], device=learner.device) for n, own in by_tensor.items()}
        self._looks: list[tuple[int, Tensor]] = []  # epochs done, [columns]

    def look(self, epoch: int) -> None:
        """Records the values after `epoch` epochs, on the device, if the run asks for them; does not synchronise."""
        is_wanted = epoch % self.run.trace.every == 0 or epoch == self.run.training.epochs
        if self.columns and is_wanted:
            tensors = self._values()
            parts = [tensors[name].flatten()[places] for name, places in self._places.items()]
            self._looks.append((epoch, torch.cat(parts).to(torch.float32)))

    def state(self) -> TraceState:
        """Returns the part of a checkpoint, on the CPU, as `restore` takes it."""
        values = [values.cpu() for _, values in self._looks]
        return {
            "asked": [*self.run.traced],
            "epochs": [epoch for epoch, _ in self._looks],
            "values": torch.stack(values) if values else torch.empty(0, len(self.columns)),
        }

    def restore(self, state: TraceState) -> None:
        """Continues from what `state` gave."""
        assert state["asked"] == [*self.run.traced]
        values = state["values"].to(self.learner.device)
        self._looks = [*zip(state["epochs"], values, strict=True)]

    def files(self) -> dict[str, str]:
        """Returns the trace as an artifact: base64 by name; empty for a run that asks for none."""
        if not self.columns:
            return {}
        state = self.state()
        return encode(self.columns, state["epochs"], state["values"].T)

    def _reference(self, images: Images) -> list[Tensor]:
        """Returns S^m of the reference batch, [B, C_m, H_m, W_m]."""
        rows = torch.linspace(0, len(images) - 1, min(IMAGES, len(images))).round().long()
        assert self.learner.source is not None
        x = self.learner.normalized(images.take(rows)).contiguous(memory_format=torch.channels_last)
        return self.learner.source.features(x)

    def _values(self) -> dict[str, Tensor]:
        """Returns every tensor of which an entry is traced."""
        tensors = {f"theta.{name}": p for name, p in self.learner.theta.items() if f"theta.{name}" in self._places}
        for kind, network in NETWORK.items():
            if kind in self.kinds:
                tensors |= self._outputs(kind, network)
        return tensors

    def _outputs(self, kind: str, network: str) -> dict[str, Tensor]:
        """Returns one meta-network's mean output by pair; the others count as 1, and omega as 1 / C."""
        pairs, by_pair = self.learner.pairs, {}
        assert pairs is not None
        phi = {name: p for name, p in self.learner.phi.items() if name.startswith(f"{network}.")}
        weights = meta.weigh(pairs, phi, self._features)
        by_level: Mapping[int, Tensor] = weights.grids or {} if kind == "gamma" else weights.channels
        for n, outputs in by_level.items():
            sizes = [pairs.source_channels[m] for m in pairs.sources_of(n)]
            for m, part in zip(pairs.sources_of(n), outputs.mean(0).split(sizes), strict=True):
                by_pair[f"{kind}.{m}-{n}"] = part.sum() if kind == "lambda" else part  # lambda / C on each channel
        return by_pair

    def _traceable(self) -> dict[str, tuple[int, ...]]:
        """Returns every tensor's shape."""
        shapes = {f"theta.{name}": tuple(p.shape) for name, p in self.learner.theta.items()}
        for kind in self.kinds:
            if kind in NETWORK:
                shapes |= {name: tuple(p.shape) for name, p in self._outputs(kind, NETWORK[kind]).items()}
        return shapes

    def _columns(self, asked: str) -> Iterator[tuple[Column, int]]:
        """Yields (name, index) and the place in the flattened tensor of every value that `asked` stands for."""
        name, _, index = asked.removesuffix("]").partition("[")
        if name in {"lambda", "omega"}:
            for tensor in [tensor for tensor in self._shapes if tensor.startswith(f"{name}.")]:
                shape = self._shapes[tensor]
                for place in range(shape[0] if shape else 1):
                    yield (tensor, str(place) if shape else ""), place
            return
        kind, _, rest = name.partition(".")
        where = "trace.weights" if kind == "theta" else f"trace.{kind}"
        known = [tensor.partition(".")[2] for tensor in self._shapes if tensor.startswith(f"{kind}.")]
        if rest not in known:
            what = "parameters of the target" if kind == "theta" else "pairs that are matched"
            raise InputError(f"{where} must name {what}, got {rest!r}; {suggest(rest, known)}")
        shape = self._shapes[name]
        if not index:
            n_entries = int(torch.tensor(shape).prod())
            for place in dict.fromkeys(
                torch.linspace(0, n_entries - 1, min(ENTRIES, n_entries)).round().long().tolist()
            ):
                at = torch.unravel_index(torch.tensor(place), shape)
                yield (name, ",".join(str(int(number)) for number in at)), place
            return
        inside = [int(number) for number in index.split(",")]
        if len(inside) != len(shape) or any(number >= size for number, size in zip(inside, shape, strict=True)):
            rule = f"{where} must have an index below {list(shape)} for {rest}"
            raise InputError(f"{rule}, got [{index}]; correct it")
        place = 0
        for number, size in zip(inside, shape, strict=True):
            place = place * size + number
        yield (name, index), place
