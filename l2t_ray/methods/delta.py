"""DELTA (Li et al., ICLR 2019, arXiv 1901.09229): the source's maps are kept, by channel as the source needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.methods.finetune import Finetune
from l2t_ray.methods.l2_sp import decay_towards
from l2t_ray.methods.method import Batch, number, within
from l2t_ray.registry import Scalar

if TYPE_CHECKING:
    from torch import Tensor

    from l2t_ray.models import Backbone

TOKENS = ("vit", "vit_b_16")
SOFTNESS = 5  # of the softmax, in the authors' code
PROBE_STEPS = 100  # of L-BFGS, at most


@dataclass(frozen=True)
class Delta(Finetune):
    """Fine-tuning on L_org + alpha Omega + beta / 2 |w_new|^2 (their eq. 3 to 6).

    Omega = sum over m of C / (2 H W) mean over x of sum over j of W_j |FM_j(w, x) - FM_j(w^0, x)|^2, and

    | symbol | code | meaning |
    | --- | --- | --- |
    | FM_j(w^0, x) | `batch.source[m]` | channel j of C of the source's map at level m, H x W pixels |
    | FM_j(w, x) | `batch.target[m]` | the target's |
    | W | `frozen["attention.m"]` | softmax(D / 5), D standardised: mean 0, deviation 1 over the level's channels |
    | D_j | `loss_increases` | by how much the source's loss rises if filter j is removed |
    | w_new | `fc.weight`, `fc.bias` | the new classifier |

    D needs a loss of the source on our classes: a linear classifier on its last features, fitted to the run's training
    images by L-BFGS with beta / 2 |w|^2. One pass for each filter would be exact, and thousands of passes for a
    ResNet-50. Here D_j is the rise to first order, -sum of FM_j dL/dFM_j, which one pass forth and back gives for all
    filters (Molchanov et al. 2017, arXiv 1611.06440, who prune by it). The factor C / (2 H W), the 5 and beta = 0.01
    are those of TLlib. So is alpha: 0.01 times a sum over 48 images there is 0.48 times a mean.
    `training.weight_decay` does not apply.
    """

    decays: bool = False

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """Checks also that the levels are maps of filters, and that neither factor is negative."""
        if run.target.arch in TOKENS:
            rule = f"must be a network of convolutions for {self.name}, got {run.target.arch}"
            yield "target.arch", f"{rule}; name another, or take l2_sp"
        yield from Finetune.laws(self, run)
        if run.target.levels != run.source.levels:
            yield "target.levels", f"must be the source's for {self.name}, got others; set both alike"
        for name in ("alpha", "beta"):
            yield from within(run, name, 0)

    def study(
        self,
        run: Run,
        source: Backbone,
        batches: Callable[[], Iterable[tuple[Tensor, Tensor]]],
        n_classes: int,
    ) -> dict[str, Tensor]:
        """Returns the channels' weights of every level."""
        rises = loss_increases(source, batches, n_classes, number(run.options, "beta"))
        return {f"attention.{m}": attention(rise) for m, rise in enumerate(rises)}

    def loss(self, extra: Mapping[str, Tensor], batch: Batch, options: Mapping[str, Scalar]) -> Tensor:
        """Returns alpha Omega."""
        levels = zip(batch.source, batch.target, strict=True)
        terms = [
            s.shape[1] / 2 * ((t - s).square().mean((0, 2, 3)) * batch.frozen[f"attention.{m}"]).sum()
            for m, (s, t) in enumerate(levels)
        ]
        return number(options, "alpha") * sum(terms[1:], terms[0])

    def penalty(
        self, theta: Mapping[str, Tensor], start: Mapping[str, Tensor], options: Mapping[str, Scalar]
    ) -> Mapping[str, Tensor]:
        """Returns the gradient of the classifier's term."""
        return decay_towards(theta, start, 0.0, number(options, "beta"))


def attention(rise: Tensor) -> Tensor:
    """Returns the weights [C] of a level's channels, which add up to 1."""
    centred = rise - rise.mean()
    deviation = centred.square().mean().sqrt()
    return (centred / deviation.clamp_min(1e-30) / SOFTNESS).softmax(0)


def loss_increases(
    source: Backbone, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]], n_classes: int, decay: float
) -> list[Tensor]:
    """Returns the rise of the source's mean loss without a filter, to first order: [C_m] for every level m.

    Args:
        source: the frozen network.
        batches: returns images and labels.
        n_classes: of the labels.
        decay: of the classifier that gives the source a loss on these classes.
    """
    import torch
    from torch.nn import functional as F

    from l2t_ray.models.headed import LastFeatures

    with LastFeatures(source) as last:
        with torch.no_grad():
            given = [(source(images), last.noted, labels)[1:] for images, labels in batches()]
        features, labels = (torch.cat(part) for part in zip(*given, strict=True))
        weight, bias = fit_classifier(features, labels, n_classes, decay)
        rises = [features.new_zeros(n) for n in source.channels]
        for images, own in batches():
            with torch.enable_grad():
                maps = source.outputs(images.detach().requires_grad_())[0]
                loss = F.cross_entropy(F.linear(last.noted, weight, bias), own, reduction="sum")
                gradients = torch.autograd.grad(loss, maps)
            for m, gradient in enumerate(gradients):
                rises[m] -= (maps[m].detach() * gradient).sum((0, 2, 3)) / len(labels)
    return rises


def fit_classifier(features: Tensor, labels: Tensor, n_classes: int, decay: float) -> tuple[Tensor, Tensor]:
    """Returns weight [N, C] and bias [N] with the least mean cross-entropy + decay / 2 (|weight|^2 + |bias|^2)."""
    import torch
    from torch.nn import functional as F

    with torch.enable_grad():
        weight = features.new_zeros(n_classes, features.shape[1]).requires_grad_()
        bias = features.new_zeros(n_classes).requires_grad_()
        optimizer = torch.optim.LBFGS([weight, bias], max_iter=PROBE_STEPS, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(F.linear(features, weight, bias), labels)
            loss = loss + decay / 2 * (weight.square().sum() + bias.square().sum())
            loss.backward()
            return loss

        optimizer.step(closure)
    return weight.detach(), bias.detach()


METHODS = (Delta("delta", uses=frozenset({"source"}), options={"rate": 1.0, "alpha": 0.48, "beta": 0.01}),)
