"""Slow, obvious twins of the numeric core: one run, pair by pair, plain autograd through everything.

They follow the paper's formulas (method.md, sections 2 to 4) and share but the parameters' names with `l2t_ray`.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

Dict = dict[str, Tensor]


def target(levels: tuple[tuple[int, ...], ...], theta: Dict, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """T^n(x) for every level, and the logits, with batch statistics."""
    features, index = [], 0
    for level in levels:
        for _ in level:
            x = F.conv2d(x, theta[f"conv.{index}.weight"], padding=1)
            x = F.batch_norm(x, None, None, theta[f"bn.{index}.weight"], theta[f"bn.{index}.bias"], training=True)
            x = F.relu(x)
            index += 1
        features.append(x)
        x = F.max_pool2d(x, 2)
    return features, F.linear(x.mean((2, 3)), theta["fc.weight"], theta["fc.bias"])


def project(theta: Dict, features: list[Tensor], pairs: list[tuple[int, int]], channels: tuple[int, ...]) -> dict:
    """r(T^n(x)) by pair."""
    projected = {}
    for n in sorted({n for _, n in pairs}):
        rows = 0
        for m in sorted(m for m, level in pairs if level == n):
            weight = theta[f"project.{n}.weight"][rows : rows + channels[m]]
            bias = theta[f"project.{n}.bias"][rows : rows + channels[m]]
            projected[m, n] = F.conv2d(features[n], weight, bias)
            rows += channels[m]
    return projected


def weights(phi: Dict, source: list[Tensor], pairs: list[tuple[int, int]], sizes: list[int]) -> dict:
    """(omega [B, C], lambda [B], gamma [B, C, H, W]) by pair: thesis eq. 5 to 7 with one linear layer each."""
    result = {}
    for m, n in pairs:
        s = source[m]
        n_images, n_channels = s.shape[:2]
        position = [level for other, level in sorted(pairs) if other == m].index(n)
        means = s.mean((2, 3))
        omega = s.new_full((n_images, n_channels), 1 / n_channels)
        where, gamma = s.new_ones(n_images), s.new_ones(n_images, n_channels, sizes[n], sizes[n])
        if f"what.{m}.weight" in phi:
            omega = F.linear(means, phi[f"what.{m}.weight"][position], phi[f"what.{m}.bias"][position]).softmax(1)
        if f"where.{m}.weight" in phi:
            where = F.relu6(means @ phi[f"where.{m}.weight"][position] + phi[f"where.{m}.bias"][position])
        if f"which.{m}.weight" in phi:
            columns = slice(9 * position, 9 * position + 9)
            maps = []
            for c in range(n_channels):
                score = (
                    s[:, c].flatten(1) @ phi[f"which.{m}.weight"][c][:, columns] + phi[f"which.{m}.bias"][c][columns]
                )
                maps.append(F.softplus(score).view(n_images, 3, 3))
            gamma = F.interpolate(torch.stack(maps, 1), size=(sizes[n], sizes[n]), mode="bilinear")
        result[m, n] = (omega, where, gamma)
    return result


def wfm_loss(projected: dict, source: list[Tensor], weights: dict) -> Tensor:
    """L_wfm (thesis eq. 5 and 7) for all pairs."""
    total = torch.zeros((), dtype=next(iter(projected.values())).dtype)
    for (m, n), r in projected.items():
        omega, where, gamma = weights[m, n]
        s = source[m]
        if s.shape[-1] != r.shape[-1]:
            s = F.interpolate(s, size=r.shape[2:], mode="bilinear")
        distance = (r - s) ** 2
        per_image = (omega * (gamma * distance).sum((2, 3))).sum(1) / (r.shape[2] * r.shape[3])
        total = total + (where * per_image).mean()
    return total


class Problem:
    """One run's losses as functions of theta and phi."""

    def __init__(self, levels, pairs, channels, images, labels, source):
        self.levels, self.pairs, self.channels = levels, sorted(pairs), channels
        self.images, self.labels, self.source = images, labels, source
        self.sizes = [images.shape[-1] // 2**n for n in range(len(levels))]

    def org(self, theta: Dict) -> Tensor:
        """L_org."""
        return F.cross_entropy(target(self.levels, theta, self.images)[1], self.labels)

    def wfm(self, theta: Dict, phi: Dict) -> Tensor:
        """L_wfm."""
        features, _ = target(self.levels, theta, self.images)
        projected = project(theta, features, self.pairs, self.channels)
        return wfm_loss(projected, self.source, weights(phi, self.source, self.pairs, self.sizes))

    def outer(
        self, theta: Dict, phi: Dict, alpha: float, n_steps: int, buffers: Dict | None = None, decay: float = 0.0,
        momentum: float = 0.0, scale: float = 1.0,
    ) -> Tensor:  # fmt: skip
        """L_org(theta_{T+1}), differentiable with respect to phi through every step."""
        theta = {name: p.detach().requires_grad_() for name, p in theta.items()}
        q = buffers or {name: torch.zeros_like(p) for name, p in theta.items()}
        for t in range(n_steps + 1):
            loss = scale * self.wfm(theta, phi) if t < n_steps else self.org(theta)
            names = list(theta)
            gradients = torch.autograd.grad(loss, [theta[name] for name in names], create_graph=True, allow_unused=True)
            zero = {name: torch.zeros_like(theta[name]) for name in names}
            found = {n: zero[n] if g is None else g for n, g in zip(names, gradients, strict=True)}
            q = {name: momentum * q[name] + found[name] + decay * theta[name] for name in names}
            theta = {name: theta[name] - alpha * q[name] for name in names}
        return self.org(theta)

    def hypergradient(self, theta: Dict, phi: Dict, **rule) -> Dict:
        """grad_phi L_org(theta_{T+1}) by double back-propagation."""
        phi = {name: p.detach().requires_grad_() for name, p in phi.items()}
        gradients = torch.autograd.grad(self.outer(theta, phi, **rule), list(phi.values()))
        return dict(zip(phi, gradients, strict=True))


def calibration_error_percent(logits: Tensor, labels: Tensor, n_bins: int = 15) -> float:
    """The expected calibration error of one network (Guo et al. 2017, eq. 3), image by image; logits [B, N]."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for scores, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        exponentials = [math.exp(score - max(scores)) for score in scores]
        confidence = max(exponentials) / sum(exponentials)
        bins.setdefault(math.ceil(confidence * n_bins), []).append((confidence, scores.index(max(scores)) == label))
    gaps = []
    for members in bins.values():
        accuracy = sum(right for _, right in members) / len(members)
        confidence = sum(confidence for confidence, _ in members) / len(members)
        gaps.append(len(members) / len(labels) * abs(accuracy - confidence))
    return 100 * sum(gaps)
