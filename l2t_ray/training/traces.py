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

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from l2t_ray.config import Run
from l2t_ray.data.augment import normalize
from l2t_ray.errors import InputError, suggest
from l2t_ray.methods import meta
from l2t_ray.training.learner import Learner
from l2t_ray.training.trace_file import Column, encode

IMAGES = 128
ENTRIES = 8  # traced of a tensor that is named without an index
NETWORK = {"lambda": "where", "omega": "what", "gamma": "which"}
TraceState = dict[str, Any]


class Tracer:
    """Records the traces that the runs of a pack ask for.

    Args:
        runs: of the pack; each may ask for something else.
        learner: of the same runs.
        images: each run's training images, uint8 [K, N, 3, 32, 32], on the device.
    """

    def __init__(self, runs: Sequence[Run], learner: Learner, images: Tensor) -> None:
        self.runs, self.learner = runs, learner
        self.n_epochs = runs[0].training.epochs
        asked = [[name.partition("@")[0] for name in run.traced] for run in runs]
        self.kinds = sorted({name.partition(".")[0] for names in asked for name in names})
        self._features = self._reference(images) if {*self.kinds} & {*NETWORK} else []
        self._shapes = self._traceable()
        columns = [dict(column for name in names for column in self._columns(name)) for names in asked]
        union = {column: place for own in columns for column, place in own.items()}
        self.columns = [*union]
        self._places: dict[str, Tensor] = {}  # by tensor: its traced entries, in the order of `columns`
        for name in dict.fromkeys(name for name, _ in self.columns):
            places = [place for column, place in union.items() if column[0] == name]
            self._places[name] = torch.tensor(places, device=learner.device)
        self._mine = [torch.tensor([self.columns.index(column) for column in own]) for own in columns]
        self._looks: list[tuple[int, Tensor]] = []  # epochs done, [K, columns]

    def look(self, epoch: int) -> None:
        """Records the values after `epoch` epochs, on the device, if a run asks for them; does not synchronise."""
        if self.columns and any(self._is_wanted(run, epoch) for run in self.runs):
            tensors = self._values()
            parts = [tensors[name].reshape(len(self.runs), -1)[:, places] for name, places in self._places.items()]
            self._looks.append((epoch, torch.cat(parts, 1).to(torch.float32)))

    def state(self, k: int) -> TraceState:
        """Returns the part of a checkpoint for the run at place k of the pack, on the CPU, as `restore` takes it."""
        looks = [(epoch, values) for epoch, values in self._looks if self._is_wanted(self.runs[k], epoch)]
        values = [values[k].cpu()[self._mine[k]] for _, values in looks]
        return {
            "asked": [*self.runs[k].traced],
            "epochs": [epoch for epoch, _ in looks],
            "values": torch.stack(values) if values else torch.empty(0, len(self._mine[k])),
        }

    def restore(self, states: Sequence[TraceState]) -> None:
        """Continues from what `state` gave, one for each run."""
        assert all(state["asked"] == [*run.traced] for run, state in zip(self.runs, states, strict=True))
        by_epoch: dict[int, Tensor] = {}
        for k, state in enumerate(states):
            for epoch, values in zip(state["epochs"], state["values"], strict=True):
                look = by_epoch.setdefault(epoch, torch.full((len(self.runs), len(self.columns)), torch.nan))
                look[k, self._mine[k]] = values
        self._looks = [(epoch, by_epoch[epoch].to(self.learner.device)) for epoch in sorted(by_epoch)]

    def files(self, k: int) -> dict[str, str]:
        """Returns the trace of run k as an artifact: base64 by name; empty for a run that asks for none."""
        if not len(self._mine[k]):
            return {}
        state = self.state(k)
        return encode([self.columns[place] for place in self._mine[k].tolist()], state["epochs"], state["values"].T)

    def _is_wanted(self, run: Run, epoch: int) -> bool:
        return bool(run.traced) and (epoch % run.trace.every == 0 or epoch == self.n_epochs)

    def _reference(self, images: Tensor) -> list[Tensor]:
        """Returns S^m of the reference batch, [B, K, C_m, H_m, W_m]."""
        n_images = min(IMAGES, images.shape[1])
        rows = torch.linspace(0, images.shape[1] - 1, n_images).round().long().to(images.device)
        flat = normalize(images[:, rows].transpose(0, 1).flatten(0, 1), self.learner.dtype)
        assert self.learner.source is not None
        features = self.learner.source.features(flat.contiguous(memory_format=torch.channels_last))
        return [s.unflatten(0, (n_images, len(self.runs))) for s in features]

    def _values(self) -> dict[str, Tensor]:
        """Returns every tensor of which an entry is traced, [K, ...]."""
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
            means = outputs.mean(0).unflatten(0, (len(self.runs), -1))
            sizes = [pairs.source_channels[m] for m in pairs.sources_of(n)]
            for m, part in zip(pairs.sources_of(n), means.split(sizes, 1), strict=True):
                by_pair[f"{kind}.{m}-{n}"] = part.sum(1) if kind == "lambda" else part  # lambda / C on each channel
        return by_pair

    def _traceable(self) -> dict[str, tuple[int, ...]]:
        """Returns every tensor's shape, without the axis K."""
        shapes = {f"theta.{name}": tuple(p.shape[1:]) for name, p in self.learner.theta.items()}
        for kind in self.kinds:
            if kind in NETWORK:
                shapes |= {name: tuple(p.shape[1:]) for name, p in self._outputs(kind, NETWORK[kind]).items()}
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
