"""Compares the terms of our rivals with TLlib's own functions, on random tensors in float64.

    python -m benchmarks.against_tllib ~/Transfer-Learning-Library

TLlib is no package of PyPI; the argument is a clone of github.com/thuml/Transfer-Learning-Library.
"""

import argparse
import importlib
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from l2t_ray import registry
from l2t_ray.methods.delta import attention
from l2t_ray.methods.l2_sp import decay_towards
from l2t_ray.methods.method import Batch
from l2t_ray.models.stochnorm import StochNorm

B, C, N_SOURCE, N_TARGET, SIDE = 12, 7, 9, 4, 5
PARTS = ("regularization.bss", "regularization.co_tuning", "regularization.delta", "normalization.stochnorm")


def parts_of(clone: Path) -> list[Any]:
    """Returns modules of a clone without its packages' `__init__`, which import everything."""
    for name in ("tllib", "tllib.regularization", "tllib.normalization"):
        package = types.ModuleType(name)
        package.__path__ = [str(clone.joinpath(*name.split(".")))]
        sys.modules[name] = package
    return [importlib.import_module(f"tllib.{name}") for name in PARTS]


class Source(nn.Module):
    """A classifier of images."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.n_classes = nn.Linear(3 * SIDE**2, N_SOURCE), N_SOURCE

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits."""
        logits: Tensor = self.fc(images.flatten(1))
        return logits


def draw(*shape: int) -> Tensor:
    """Returns normal draws."""
    return torch.randn(*shape, dtype=torch.float64)


def batch(source: list[Tensor], target: list[Tensor], labels: Tensor, **frozen: Tensor) -> Batch:
    """Returns what a method's loss is given."""
    return Batch(source, target, draw(B, N_TARGET), labels, frozen=frozen)


def gradient(loss: Tensor, at: Tensor) -> Tensor:
    """Returns the derivative of a loss."""
    return torch.autograd.grad(loss, at, retain_graph=True)[0]


def comparisons(clone: Path) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yields what is compared, our values, and TLlib's."""
    bss, co_tuning, delta, stochnorm = parts_of(clone)
    labels = torch.arange(B) % N_TARGET
    method = registry.METHODS["bss"]
    features = draw(B, C).requires_grad_()
    for k in (1, 3):
        ours = method.loss({}, batch([], [features[:, :, None, None]], labels), {"eta": 1.0, "k": k})
        theirs = bss.BatchSpectralShrinkage(k)(features)
        yield f"bss, k = {k}: the loss", ours, theirs
        yield f"bss, k = {k}: its gradient", gradient(ours, features), gradient(theirs, features)

    method = registry.METHODS["co_tuning"]
    source = Source().double()
    images = draw(B, 3, SIDE, SIDE)
    relation = method.study(None, source, lambda: [(images[:5], labels[:5]), (images[5:], labels[5:])], N_TARGET)
    with mock.patch("builtins.print"), mock.patch("tqdm.tqdm", iter):
        theirs = co_tuning.Relationship([(images, labels)], source, "cpu").relationship
    yield "co_tuning: the relation of the classes", relation["relation"].detach(), torch.from_numpy(theirs)
    logits = draw(B, N_SOURCE).requires_grad_()
    ours = method.loss({}, batch([], [logits[:, :, None, None]], labels, **relation), {"weight": 1.0})
    theirs = co_tuning.CoTuningLoss()(logits, torch.from_numpy(theirs)[labels])
    yield "co_tuning: the loss", ours, theirs
    yield "co_tuning: its gradient", gradient(ours, logits), gradient(theirs, logits)

    method = registry.METHODS["delta"]
    fixed, trained = [draw(B, c, SIDE, SIDE) for c in (C, 3)], [draw(B, c, SIDE, SIDE) for c in (C, 3)]
    trained = [one.requires_grad_() for one in trained]
    weights = [attention(draw(c)) for c in (C, 3)]
    given = batch(fixed, trained, labels, **{f"attention.{m}": w for m, w in enumerate(weights)})
    ours = method.loss({}, given, {"alpha": 0.01 * B})
    named = [OrderedDict(enumerate(maps)) for maps in (fixed, trained)]
    theirs = 0.01 * delta.AttentionBehavioralRegularization(weights)(*named)
    yield "delta: the loss", ours, theirs
    for m, at in enumerate(trained):
        yield f"delta: its gradient, level {m}", gradient(ours, at), gradient(theirs, at)

    network, start = nn.Linear(C, N_TARGET).double(), nn.Linear(C, N_TARGET).double()
    theta = dict(network.named_parameters())
    ours = decay_towards(theta, dict(start.named_parameters()), 0.01, 0.02)
    theirs = 0.01 * delta.SPRegularization(start, network)()
    for name, p in theta.items():
        yield f"l2_sp: the gradient of {name}", ours[name], gradient(theirs, p).detach()

    theirs = stochnorm.StochNorm2d(C, p=0.5).double().train()
    ours = StochNorm(C).double().train()
    for norm in (theirs, ours):
        norm.running_mean.copy_(torch.linspace(-1, 1, C))
        norm.running_var.copy_(torch.linspace(0.5, 2, C))
        norm.weight.data.copy_(torch.linspace(0.1, 1, C))
    images, coins = draw(B, C, SIDE, SIDE), np.arange(C) % 2
    ours.by_batch, ours.is_pure = torch.from_numpy(coins).bool(), True
    with (
        mock.patch.object(np.random, "binomial", return_value=coins),
        mock.patch.object(Tensor, "cuda", Tensor.double),  # it takes a card for granted
    ):
        yield "stochnorm: a batch", ours(images).detach(), theirs(images).detach()


def main() -> int:
    """Prints the largest relative differences; returns 1 if one is above rounding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path)
    registry.load()
    torch.manual_seed(0)
    largest = 0.0
    for what, ours, theirs in comparisons(parser.parse_args().clone):
        apart = float(((ours - theirs).abs().max() / theirs.abs().max()).detach())
        largest = max(largest, apart)
        print(f"{what:<42} {apart:.1e}")
    return int(largest > 1e-10)


if __name__ == "__main__":
    sys.exit(main())
