"""Slow, obvious twins of the numeric core: one run, pair by pair, plain autograd through everything.

They follow the paper's formulas (method.md, sections 2 to 4) and share but the parameters' names with `l2t_ray`.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

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


def resnet(theta: Dict, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """He et al. 2016, CIFAR: a level is a stage's last output; with batch statistics."""

    def norm(name: str, z: Tensor) -> Tensor:
        return F.batch_norm(z, None, None, theta[f"{name}.weight"], theta[f"{name}.bias"], training=True)

    x = F.relu(norm("bn1", F.conv2d(x, theta["conv1.weight"], theta["conv1.bias"], padding=1)))
    features = []
    for stage in range(3):
        block = 0
        while (name := f"stages.{stage}.{block}") + ".conv1.weight" in theta:
            stride = 2 if stage > 0 and block == 0 else 1
            y = F.relu(norm(f"{name}.bn1", F.conv2d(x, theta[f"{name}.conv1.weight"], stride=stride, padding=1)))
            y = norm(f"{name}.bn2", F.conv2d(y, theta[f"{name}.conv2.weight"], padding=1))
            if f"{name}.downsample.0.weight" in theta:
                x = norm(f"{name}.downsample.1", F.conv2d(x, theta[f"{name}.downsample.0.weight"], stride=stride))
            x = F.relu(x + y)
            block += 1
        features.append(x)
    return features, F.linear(x.mean((2, 3)), theta["fc.weight"], theta["fc.bias"])


def vit(theta: Dict, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """Dosovitskiy et al. 2021 with 4 x 4 patches and three heads, image by image, patch by patch, head by head."""
    n_channels = len(theta["norm.weight"])
    n_head = n_channels // 3

    def linear(name: str, t: Tensor) -> Tensor:
        return t @ theta[f"{name}.weight"].T + theta[f"{name}.bias"]

    def norm(name: str, t: Tensor) -> Tensor:
        centred = t - t.mean(-1, keepdim=True)
        return (
            centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * theta[f"{name}.weight"]
            + theta[f"{name}.bias"]
        )

    maps: list[list[Tensor]] = []
    logits = []
    kernel = theta["patch.weight"].flatten(1)
    for image in x:
        patches = [image[:, r : r + 4, c : c + 4].flatten() for r in range(0, 32, 4) for c in range(0, 32, 4)]
        tokens = torch.stack([kernel @ p for p in patches]) + theta["patch.bias"] + theta["position.weight"]
        mine = []
        for block in range(6):
            name = f"blocks.{block}"
            mixed = linear(f"{name}.qkv", norm(f"{name}.norm1", tokens))
            heads = []
            for head in range(3):
                q, k, v = (mixed[:, i * n_channels + head * n_head :][:, :n_head] for i in range(3))
                heads.append(torch.softmax(q @ k.T / n_head**0.5, 1) @ v)
            tokens = tokens + linear(f"{name}.out", torch.cat(heads, 1))
            hidden = linear(f"{name}.up", norm(f"{name}.norm2", tokens))
            gelu = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
            tokens = tokens + linear(f"{name}.down", gelu)
            mine.append(tokens.T.reshape(n_channels, 8, 8))
        maps.append(mine)
        logits.append(linear("fc", norm("norm", tokens).mean(0)))
    return [torch.stack(level) for level in zip(*maps, strict=True)], torch.stack(logits)


class Problem:
    """One run's losses as functions of theta and phi."""

    def __init__(self, levels, pairs, channels, images, labels, source):
        self.levels, self.pairs, self.channels = levels, sorted(pairs), channels
        self.images, self.labels, self.source = images, labels, source
        self.sizes = [images.shape[-1] // 2**n for n in range(len(levels))]

    def outputs(self, theta: Dict) -> tuple[list[Tensor], Tensor]:
        """T^n(x) and logits."""
        return target(self.levels, theta, self.images)

    def org(self, theta: Dict) -> Tensor:
        """L_org."""
        return F.cross_entropy(self.outputs(theta)[1], self.labels)

    def wfm(self, theta: Dict, phi: Dict) -> Tensor:
        """L_wfm."""
        features, _ = self.outputs(theta)
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


def attention_distance(source: list[Tensor], target: list[Tensor], beta: float) -> float:
    """Zagoruyko and Komodakis 2017, eq. 2 with p = 2, pair by pair of the given lists, pixel by pixel."""
    total = 0.0
    for s, t in zip(source, target, strict=True):
        n_images, size = s.shape[0], s.shape[-1]
        for b in range(n_images):
            maps = []
            for f in (s[b], t[b]):
                q = [sum(float(v) ** 2 for v in f[:, i, j]) / len(f) for i in range(size) for j in range(size)]
                norm = sum(v * v for v in q) ** 0.5
                maps.append([v / norm for v in q])
            distance = sum((x - y) ** 2 for x, y in zip(*maps, strict=True))
            total += beta / 2 * distance / (n_images * size * size)
    return total


def soft_probabilities(logits: list[float], temperature: float) -> list[float]:
    """exp(z / t) / sum exp(z / t)."""
    powers = [math.exp(z / temperature) for z in logits]
    return [p / sum(powers) for p in powers]


def distillation_loss(ours: Tensor, theirs: Tensor, labels: Tensor, temperature: float, alpha: float) -> float:
    """Hinton et al. 2015, section 2: (1 - alpha) cross-entropy + alpha t^2 KL, image by image."""
    total = 0.0
    for z, s, label in zip(ours.tolist(), theirs.tolist(), labels.tolist(), strict=True):
        p, q = soft_probabilities(s, temperature), soft_probabilities(z, temperature)
        divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        total += -(1 - alpha) * math.log(soft_probabilities(z, 1.0)[label]) + alpha * temperature**2 * divergence
    return total / len(labels)


def factors_distance(ours: Tensor, theirs: Tensor, p: int) -> float:
    """Kim et al. 2018, eq. 3: |F_T / |F_T| - F_S / |F_S||^p, entry by entry, as a mean."""
    total = 0.0
    for x, y in zip(ours.flatten(1).tolist(), theirs.flatten(1).tolist(), strict=True):
        lengths = [sum(v * v for v in side) ** 0.5 for side in (x, y)]
        total += sum(abs(a / lengths[0] - b / lengths[1]) ** p for a, b in zip(x, y, strict=True)) / len(x)
    return total / len(ours)


def spottuned(theta: Dict, source, gates: Tensor, images: Tensor) -> Tensor:
    """Guo et al. 2019, eq. 1, image by image: each block is the source's (gate 0) or the tuned one (gate 1).

    Batch statistics are of the whole batch, so every block sees all images; then each image takes its own.
    """

    def norm(name: str, z: Tensor) -> Tensor:
        return F.batch_norm(z, None, None, theta[f"{name}.weight"], theta[f"{name}.bias"], training=True)

    x = F.relu(norm("bn1", F.conv2d(images, theta["conv1.weight"], theta["conv1.bias"], padding=1)))
    index = 0
    for stage in range(3):
        for block, frozen in enumerate(source.stages[stage]):
            name, stride = f"stages.{stage}.{block}", 2 if stage > 0 and block == 0 else 1
            y = F.relu(norm(f"{name}.bn1", F.conv2d(x, theta[f"{name}.conv1.weight"], stride=stride, padding=1)))
            y = norm(f"{name}.bn2", F.conv2d(y, theta[f"{name}.conv2.weight"], padding=1))
            skip = x
            if f"{name}.downsample.0.weight" in theta:
                skip = norm(f"{name}.downsample.1", F.conv2d(x, theta[f"{name}.downsample.0.weight"], stride=stride))
            both = frozen(x), F.relu(skip + y)
            x = torch.stack([both[int(gates[b, index])][b] for b in range(len(images))])
            index += 1
    return F.linear(x.mean((2, 3)), theta["fc.weight"], theta["fc.bias"])


def l2_sp_loss(theta: Dict, first: Dict, images: Tensor, labels: Tensor, alpha: float, beta: float) -> Tensor:
    """Li et al. 2018, eq. 4, on a CIFAR ResNet: what was copied decays towards its start, the classifier towards 0."""
    loss = F.cross_entropy(resnet(theta, images)[1], labels)
    for name, p in theta.items():
        if name in ("fc.weight", "fc.bias"):
            loss = loss + beta / 2 * (p * p).sum()
        else:
            loss = loss + alpha / 2 * ((p - first[name]) ** 2).sum()
    return loss


def smallest_squares(features: Tensor, k: int) -> Tensor:
    """Chen et al. 2019, eq. 3: squared singular values are eigenvalues of F F^T, or of F^T F if that is the smaller."""
    gram = features @ features.T if features.shape[0] <= features.shape[1] else features.T @ features
    return torch.linalg.eigvalsh(gram)[:k].sum()


def stochastic_norm(z: Tensor, heads: list[bool], mean: Tensor, var: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """Kou et al. 2020: channel by channel, heads for the batch's statistics; epsilon is torch's."""
    maps = []
    for c, by_batch in enumerate(heads):
        x = z[:, c]
        m, v = (x.mean(), ((x - x.mean()) ** 2).mean()) if by_batch else (mean[c], var[c])
        maps.append(g[c] * (x - m) / (v + 1e-5).sqrt() + b[c])
    return torch.stack(maps, 1)


def category_relation(source_logits: Tensor, labels: list[int], n_classes: int) -> list[list[float]]:
    """You et al. 2020, the direct approach: the mean of the source's softmax over the images of each class."""
    rows = []
    for y in range(n_classes):
        mine = [
            soft_probabilities(z, 1.0) for z, label in zip(source_logits.tolist(), labels, strict=True) if label == y
        ]
        rows.append([sum(column) / len(mine) for column in zip(*mine, strict=True)])
    return rows


def co_tuning_loss(relation: list[list[float]], second_logits: Tensor, labels: list[int], weight: float) -> float:
    """You et al. 2020, eq. 1: the second term, image by image."""
    total = 0.0
    for z, y in zip(second_logits.tolist(), labels, strict=True):
        q = soft_probabilities(z, 1.0)
        total -= sum(p * math.log(share) for p, share in zip(relation[y], q, strict=True))
    return weight * total / len(labels)


def channel_attention(rises: list[float]) -> list[float]:
    """Li et al. 2019, eq. 6, with the standardisation of the authors' code: exp(z / 5) / sum exp(z / 5)."""
    mean = sum(rises) / len(rises)
    deviation = (sum((r - mean) ** 2 for r in rises) / len(rises)) ** 0.5
    return soft_probabilities([(r - mean) / deviation for r in rises], 5.0)


def maps_kept(source: list[Tensor], target: list[Tensor], attention: list[list[float]]) -> float:
    """Li et al. 2019, eq. 5: level by level, image by image, channel by channel; times C / (2 H W), as in TLlib."""
    total = 0.0
    for s, t, weights in zip(source, target, attention, strict=True):
        n_images, n_channels, height, width = s.shape
        for i in range(n_images):
            for j, weight in enumerate(weights):
                squares = sum(float(d) ** 2 for d in (t[i, j] - s[i, j]).flatten())
                total += n_channels / (2 * height * width) * weight * squares / n_images
    return total
