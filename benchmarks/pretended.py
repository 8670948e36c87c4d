"""A card that is only pretended: every operation of a step is dispatched as on one, and no kernel runs.

Operations are counted as kernels; views are none, and a convolution counts one though a library may take several. A
piece that torch.compile fuses counts one, or four where it sums over large maps: its generated code takes three to five
(`benchmarks.generated_code`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
WITHOUT_SUMS = frozenset({"unpool"})  # of the pieces that are compiled for each size and called with large maps


@dataclass
class Piece:
    """A piece as it was called with arguments of one size."""

    function: Callable[..., Any]
    is_dynamic: bool  # compiled once for all sizes
    arguments: tuple[Any, ...]
    settings: dict[str, Any]
    n_calls: int = 0

    @property
    def splits(self) -> bool:
        """Whether many blocks of threads sum."""
        return not self.is_dynamic and most_summed(self.arguments) > ONE_BLOCK

    @property
    def n_kernels(self) -> int:
        """Kernels of its generated code, about."""
        return SPLIT_SUM if self.splits and self.function.__name__ not in WITHOUT_SUMS else 1


class OnCard(TorchDispatchMode):
    """Counts kernels; notes operations that read or give a tensor elsewhere, as each would wait for the card."""

    def __init__(self) -> None:
        super().__init__()
        self.n_operations, self.n_outside, self.is_in_piece = 0, 0, False
        self.elsewhere: set[str] = set()
        self.pieces: dict[Any, Piece] = {}  # by function and sizes

    @property
    def n_kernels(self) -> int:
        """Kernels outside of pieces, and those that the pieces' generated code would take."""
        return self.n_outside + sum(piece.n_calls * piece.n_kernels for piece in self.pieces.values())

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), settings: Any = None) -> Any:
        """Counts an operation, and does it."""
        found = operation(*arguments, **(settings or {}))
        tensors = [x for x in tree_leaves((arguments, settings, found)) if isinstance(x, torch.Tensor)]
        given = {x.untyped_storage()._cdata for x in tree_leaves((arguments, settings)) if isinstance(x, torch.Tensor)}
        makes = any(tensor.untyped_storage()._cdata not in given for tensor in tensors)
        self.n_operations += 1
        if not self.is_in_piece and (makes or operation._schema.is_mutable):  # what is left are views
            self.n_outside += 1
        if any(tensor.device.type != CARD.type for tensor in tensors):
            self.elsewhere.add(str(operation))
        return found

    def compile(self, function: Callable[..., Any], *, dynamic: bool, **_: Any) -> Callable[..., Any]:
        """In the place of torch.compile: calls the piece, and notes it."""

        def call(*arguments: Any, **settings: Any) -> Any:
            key = function, _sizes(arguments), _sizes(tuple(settings.items()))
            self.pieces.setdefault(key, Piece(function, dynamic, arguments, settings)).n_calls += 1
            self.is_in_piece = True
            try:
                return function(*arguments, **settings)
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


def full_step(method: str, batch: int, *, compiled: bool) -> OnCard:
    """Returns what a pretended card is asked for in a step of VGG-9 and ResNet-32 of width 1, in float32."""
    given = training(method, "float32", batch=batch, width=1.0, source=("resnet32", 1.0))
    return one_step(given, compiled=compiled)


def _sizes(found: Any) -> Any:
    if isinstance(found, torch.Tensor):
        return tuple(found.shape), found.stride(), found.dtype
    return tuple(map(_sizes, found)) if isinstance(found, tuple) else found


def _first(labels: torch.Tensor, *_: object) -> torch.Tensor:
    return torch.arange(len(labels))
