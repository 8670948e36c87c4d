"""A card that is only pretended: every operation of a step is dispatched as on one, and no kernel runs.

Operations are counted as kernels; views are none, and a convolution counts one though a library may take several. A
piece that torch.compile fuses counts one, or four where it sums over large maps: its generated code takes three to five
(`benchmarks.generated_code`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from l2t_ray import registry
from l2t_ray.config import Data, Run, Source, Target, Training
from l2t_ray.data import augment, place
from l2t_ray.data.load import DataSet
from l2t_ray.models import build, layer
from l2t_ray.models.compiling import ONE_BLOCK, allow_compiling, most_summed
from l2t_ray.training import run_training
from l2t_ray.training.run_training import RunTraining

CARD = torch.device("cuda")
SPLIT_SUM = 4  # kernels of a piece that sums over large maps


class OnCard(TorchDispatchMode):
    """Counts kernels; notes operations that read or give a tensor elsewhere, as each would wait for the card."""

    def __init__(self) -> None:
        super().__init__()
        self.n_operations, self.n_kernels, self.is_in_piece = 0, 0, False
        self.elsewhere: set[str] = set()

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), settings: Any = None) -> Any:
        """Counts an operation, and does it."""
        found = operation(*arguments, **(settings or {}))
        tensors = [x for x in tree_leaves((arguments, settings, found)) if isinstance(x, torch.Tensor)]
        given = {x.untyped_storage()._cdata for x in tree_leaves((arguments, settings)) if isinstance(x, torch.Tensor)}
        makes = any(tensor.untyped_storage()._cdata not in given for tensor in tensors)
        self.n_operations += 1
        if not self.is_in_piece and (makes or operation._schema.is_mutable):  # what is left are views
            self.n_kernels += 1
        if any(tensor.device.type != CARD.type for tensor in tensors):
            self.elsewhere.add(str(operation))
        return found

    def compile(self, piece: Callable[..., Any], *, dynamic: bool, **_: Any) -> Callable[..., Any]:
        """In the place of torch.compile: calls the piece, and counts what its generated code would take."""

        def call(*arguments: Any, **settings: Any) -> Any:
            self.n_kernels += SPLIT_SUM if not dynamic and most_summed(arguments) > ONE_BLOCK else 1
            self.is_in_piece = True
            try:
                return piece(*arguments, **settings)
            finally:
                self.is_in_piece = False

        return call


@contextmanager
def pretended_card() -> Iterator[torch.device]:
    """Lets tensors lie on a card that is not there; what torch cannot pretend is left out."""
    registry.load()
    kept = (augment._constants, layer.kept_standard)  # pretended tensors must not stay
    with (
        # the engine asks for a driver before it runs the meta-networks' few backward passes, which are torch's own
        patch.object(torch.autograd, "grad", lambda outputs, inputs, at_outputs: [torch.zeros_like(x) for x in inputs]),
        # which images a run draws is decided before the training, from labels that are not there
        patch.object(run_training, "stratified_subset", _first),
        patch.object(place, "fits", lambda n_bytes, device: True),
    ):
        for cached in kept:
            cached.cache_clear()
        try:
            with torch.no_grad(), FakeTensorMode():
                yield CARD
        finally:
            for cached in kept:
                cached.cache_clear()


def training(
    method: str, precision: str, *, batch: int = 8, width: float = 0.125, source: tuple[str, float] = ("resnet20", 0.25)
) -> RunTraining:
    """Returns a training on the pretended card, of an epoch of one step and half of one, on images nobody has seen."""
    n_images, classes = batch + batch // 2, ("a", "b", "c")
    images, labels = torch.empty(n_images, 3, 32, 32, dtype=torch.uint8), torch.empty(n_images, dtype=torch.long)
    data = DataSet("pretended", classes, images, labels, images, labels, sha256="0" * 64)
    with CARD:
        network = build(source[0], source[1], 5).requires_grad_(False).eval()
    network.to = lambda *_: network  # type: ignore[method-assign,assignment]  # it is there, and cannot be moved
    run = Run(
        data=Data(name="digits", samples_per_class=n_images // len(classes)),
        method=method,
        seed=0,
        source=Source(arch=source[0], width=source[1]),
        target=Target(width=width),
        training=Training.model_validate({"batch_size": batch, "lr": 0.05, "precision": precision}),
    )
    return RunTraining(run, data.to(CARD), network, CARD)


def one_step(found: RunTraining, *, compiled: bool = False) -> OnCard:
    """Returns what the card is asked for in a step."""
    rows = torch.empty(found.run.training.batch_size, dtype=torch.long, device=CARD)
    found.step(rows)  # as before a recording: constants are moved once
    seen = OnCard()
    with patch.object(torch, "compile", seen.compile):
        allow_compiling("pretended" if compiled else None)
        try:
            with seen:
                found.step(rows)
        finally:
            allow_compiling(None)
    return seen


def kernels(method: str, batch: int, *, compiled: bool) -> int:
    """Returns the kernels of a step at full size: VGG-9 and ResNet-32 of width 1."""
    with pretended_card():
        return one_step(
            training(method, "float32", batch=batch, width=1.0, source=("resnet32", 1.0)), compiled=compiled
        ).n_kernels


def _first(labels: torch.Tensor, *_: object) -> torch.Tensor:
    return torch.arange(len(labels))
