"""The bilevel step as others compute it: double back-propagation, or the published code's roll-back and re-computation.

Both follow method.md (sections 2 to 4) and the description of the published code, with torch.nn modules and autograd,
for one run. They compute the same as `l2t_ray.training.learner` and are its rivals in `bench_step`.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from l2t_ray.methods.matching import Matching
from l2t_ray.models import Backbone

Tensors = Mapping[str, Tensor]


class Vgg9(nn.Module):
    """VGG-9 with batch norm and with the projections, as a plain module."""

    def __init__(self, levels: Sequence[Sequence[int]], n_classes: int, pairs: Matching) -> None:
        super().__init__()
        stages, n_inputs = [], 3
        for level in levels:
            layers: list[nn.Module] = []
            for n in level:
                layers += [nn.Conv2d(n_inputs, n, 3, padding=1, bias=False), nn.BatchNorm2d(n), nn.ReLU()]
                n_inputs = n
            stages.append(nn.Sequential(*layers))
        self.stages, self.fc = nn.ModuleList(stages), nn.Linear(n_inputs, n_classes)
        self.projections = nn.ModuleDict({
            f"{m}{n}": nn.Conv2d(levels[n][-1], pairs.source_channels[m], 1) for m, n in pairs.pairs
        })

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
            x = F.max_pool2d(x, 2)
        return features, self.fc(x.mean((2, 3)))


class Meta(nn.Module):
    """The meta-networks f, g and h, one of each per pair."""

    def __init__(self, pairs: Matching, *, which: bool) -> None:
        super().__init__()
        self.what, self.where, self.which = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for m, n in pairs.pairs:
            c, pixels = pairs.source_channels[m], (32 >> m) ** 2
            self.what[f"{m}{n}"], self.where[f"{m}{n}"] = nn.Linear(c, c), nn.Linear(c, 1)
            if which:
                self.which[f"{m}{n}"] = nn.ModuleList(nn.Linear(pixels, 9) for _ in range(c))

    def forward(
        self, source: Sequence[Tensor], pair: tuple[int, int], size: int
    ) -> tuple[Tensor, Tensor, Tensor | float]:
        m, n = pair
        key, means = f"{m}{n}", source[m].mean((2, 3))
        gamma: Tensor | float = 1.0
        if key in self.which:
            grids = [F.softplus(h(source[m][:, c].flatten(1))) for c, h in enumerate(self.which[key])]
            grid = torch.stack(grids, 1).unflatten(-1, (3, 3))
            gamma = F.interpolate(grid, size=(size, size), mode="bilinear")
        return self.what[key](means).softmax(1), F.relu6(self.where[key](means)[:, 0]), gamma


class Rival:
    """One run of l2t_ww or l2t_www on modules and autograd."""

    def __init__(
        self, source: Backbone, target: Vgg9, meta: Meta, pairs: Matching, *, inner: str, n_steps: int
    ) -> None:
        self.source, self.target, self.meta, self.pairs = source, target, meta, pairs
        self.inner, self.n_steps, self.beta, self.lr = inner, n_steps, 0.5, 0.1
        self.sgd = torch.optim.SGD(target.parameters(), self.lr, momentum=0.9, weight_decay=1e-4)
        self.adam = torch.optim.Adam(meta.parameters(), 1e-4, weight_decay=1e-4)

    def wfm(self, source: Sequence[Tensor], features: Sequence[Tensor], projections: nn.ModuleDict | Tensors) -> Tensor:
        total = features[0].new_zeros(())
        for m, n in self.pairs.pairs:
            if isinstance(projections, nn.ModuleDict):
                r = projections[f"{m}{n}"](features[n])
            else:
                names = f"projections.{m}{n}.weight", f"projections.{m}{n}.bias"
                r = F.conv2d(features[n], projections[names[0]], projections[names[1]])
            s = source[m]
            if s.shape[-1] != r.shape[-1]:
                s = F.interpolate(s, size=r.shape[2:], mode="bilinear")
            omega, where, gamma = self.meta(source, (m, n), r.shape[-1])
            per_image = (omega * (gamma * (r - s) ** 2).mean((2, 3))).sum(1)
            total = total + (where * per_image).mean()
        return total

    def first_step(self, x: Tensor, y: Tensor) -> None:
        self.sgd.zero_grad()
        features, logits = self.target(x)
        with torch.no_grad():
            source = self.source.features(x)
        loss = F.cross_entropy(logits, y) + self.beta * self.wfm(source, features, self.target.projections)
        loss.backward(inputs=list(self.target.parameters()))
        self.sgd.step()

    @property
    def scale(self) -> float:
        return self.beta if self.inner == "published" else 1.0


class DoubleBackprop(Rival):
    """Autograd through the unrolled look-ahead steps, with functional parameters."""

    def step(self, x: Tensor, y: Tensor) -> None:
        self.first_step(x, y)
        with torch.no_grad():
            source = self.source.features(x)
        names = [name for name, _ in self.target.named_parameters()]
        theta = {name: p.detach().clone().requires_grad_() for name, p in self.target.named_parameters()}
        buffers = {n: self.sgd.state[p]["momentum_buffer"].clone() for n, p in self.target.named_parameters()}
        frozen = {name: b.clone() for name, b in self.target.named_buffers()}
        for t in range(self.n_steps + 1):
            features, logits = torch.func.functional_call(self.target, (theta, frozen), (x,))
            loss = self.scale * self.wfm(source, features, theta) if t < self.n_steps else F.cross_entropy(logits, y)
            found = torch.autograd.grad(loss, list(theta.values()), create_graph=True, allow_unused=True)
            moved = {}
            for name, gradient in zip(names, found, strict=True):
                p = theta[name]
                g = torch.zeros_like(p) if gradient is None else gradient
                if self.inner == "published":
                    buffers[name] = 0.9 * buffers[name] + g + 1e-4 * p
                    g = buffers[name]
                moved[name] = p - self.lr * g
            theta = moved
        _, logits = torch.func.functional_call(self.target, (theta, frozen), (x,))
        self.adam.zero_grad()
        F.cross_entropy(logits, y).backward(inputs=list(self.meta.parameters()))
        self.adam.step()


class RollBack(Rival):
    """The published scheme: takes the steps, keeps T + 2 states, then computes every forward again from its state.

    Going back, it builds the loss of each stored step again, with a graph over theta and phi, and differentiates it
    twice; source and meta-networks run again each time. At the end it loads the state before the look-ahead.
    """

    def step(self, x: Tensor, y: Tensor) -> None:
        self.first_step(x, y)
        start = self._save()
        states = []
        for t in range(self.n_steps + 1):
            states.append(self._save())
            self.sgd.zero_grad()
            self._loss(t, x, y).backward(inputs=list(self.target.parameters()))
            if self.inner == "published":
                self.sgd.step()
            else:
                with torch.no_grad():
                    for p in self.target.parameters():
                        if p.grad is not None:
                            p.sub_(self.lr * p.grad)
        parameters, phi = list(self.target.parameters()), list(self.meta.parameters())
        loss = F.cross_entropy(self.target(x)[1], y)
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        a = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        c = [torch.zeros_like(p) for p in parameters]
        momentum, decay = (0.9, 1e-4) if self.inner == "published" else (0.0, 0.0)
        total = [torch.zeros_like(p) for p in phi]
        for t in range(self.n_steps, -1, -1):
            self._load(states[t])
            c = [one - self.lr * other for one, other in zip(c, a, strict=True)]
            found = torch.autograd.grad(self._loss(t, x, y), parameters, create_graph=True, allow_unused=True)
            product = sum((g * v).sum() for g, v in zip(found, c, strict=True) if g is not None)
            assert isinstance(product, Tensor)
            second = torch.autograd.grad(product, [*parameters, *phi], allow_unused=True)
            h, at_phi = second[: len(parameters)], second[len(parameters) :]
            a = [p + decay * q + (0 if g is None else g) for p, q, g in zip(a, c, h, strict=True)]
            c = [momentum * q for q in c]
            total = [p if g is None else p + g for p, g in zip(total, at_phi, strict=True)]
        self._load(start)
        for p, gradient in zip(phi, total, strict=True):
            p.grad = gradient
        self.adam.step()

    def _loss(self, t: int, x: Tensor, y: Tensor) -> Tensor:
        features, logits = self.target(x)
        if t == self.n_steps:
            return F.cross_entropy(logits, y)
        with torch.no_grad():
            source = self.source.features(x)
        return self.scale * self.wfm(source, features, self.target.projections)

    def _save(self) -> tuple[dict[str, Tensor], list[Tensor]]:
        buffers = [self.sgd.state[p]["momentum_buffer"].clone() for p in self.target.parameters()]
        return {name: p.clone() for name, p in self.target.state_dict().items()}, buffers

    def _load(self, saved: tuple[dict[str, Tensor], list[Tensor]]) -> None:
        self.target.load_state_dict(saved[0])
        for p, buffer in zip(self.target.parameters(), saved[1], strict=True):
            self.sgd.state[p]["momentum_buffer"].copy_(buffer)
