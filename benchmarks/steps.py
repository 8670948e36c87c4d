"""One training step of every contender, ready to be called: ours, its rivals, and a plain forward + backward pass."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rivals import DoubleBackprop, Meta, RollBack, Vgg9
from l2t_ray import registry
from l2t_ray.config import Data, Run, Source, Training, Transfer
from l2t_ray.data.streams import stream
from l2t_ray.models import Backbone, build, initialise
from l2t_ray.models.precision import allow_tf32
from l2t_ray.models.vgg import VGG9
from l2t_ray.training.cuda_graph import Replay
from l2t_ray.training.learner import Learner

N_CLASSES = 10
Step = Callable[[], None]
UNIT = "forward+backward"
RIVALS: dict[str, type[DoubleBackprop] | type[RollBack]] = {
    "double back-propagation": DoubleBackprop,
    "roll-back and re-computation": RollBack,
}
NAMES = (f"{UNIT}, channels-last", f"{UNIT}, contiguous", f"{UNIT}, memory kept", "source forward", "ours", *RIVALS)
FORMATTED = {f"{name}, channels-last": name for name in RIVALS}  # on a card, fast units need the right memory format
ON_CARD = (*(name for name in NAMES if not name.endswith("memory kept")), *FORMATTED)
KEPT = ("ours", f"{UNIT}, memory kept")  # these keep freed memory on a CPU (`device.keep_freed_memory`)


@dataclass(frozen=True)
class Case:
    """What is timed; precision and graph apply only to our step."""

    batch: int
    method: str
    inner: str  # rule of the look-ahead steps
    precision: str = "float32"
    graph: bool = False  # replayed as a CUDA graph


def frozen_source(device: torch.device) -> Backbone:
    """A ResNet-32 with random weights, which takes as long as a trained one."""
    source = build("resnet32", 1.0, 200)
    initialise(source, stream(0, "init"))
    return source.to(device).requires_grad_(False).eval()


def ours(case: Case, device: torch.device) -> Step:
    """Our learner's step, called or replayed as a graph."""
    learner, inputs = learner_of(case, device)

    def called(*inputs: torch.Tensor) -> None:
        learner.step(*inputs)

    step = Replay([called], learner.tensors(), captured=case.graph and device.type == "cuda")

    def once() -> None:
        with torch.no_grad():
            step([inputs], [True])

    return once


def operations(case: Case) -> int:
    """Floating-point operations of the products in our step; torch counts those of an image without computing."""
    learner, inputs = learner_of(Case(2, case.method, case.inner), torch.device("meta"))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        learner.step(*inputs)
    return int(counter.get_total_flops() / 2 * case.batch)


def make(name: str, case: Case, device: torch.device) -> Step:
    """A contender's step, by its name in `NAMES`, for one run."""
    registry.load()
    allow_tf32(case.precision)
    if name == "ours":
        return ours(case, device)
    source = frozen_source(device)
    learner, (images, labels, _) = learner_of(case, device)
    assert learner.pairs is not None
    x, y = images.contiguous(), labels
    if name == "source forward":

        def source_pass() -> None:
            with torch.no_grad():
                source.features(images)

        return source_pass
    target = Vgg9(VGG9, N_CLASSES, learner.pairs).to(device)
    if name in FORMATTED:
        name, x, target = FORMATTED[name], images, target.to(memory_format=torch.channels_last)
    if name in RIVALS:
        meta = Meta(learner.pairs, which=case.method == "l2t_www").to(device)
        rival = RIVALS[name](source, target, meta, learner.pairs, inner=case.inner, n_steps=2)
        return lambda: rival.step(x, y)
    if not name.endswith("contiguous"):
        target, x = target.to(memory_format=torch.channels_last), images

    def plain() -> None:
        target.zero_grad()
        F.cross_entropy(target(x)[1], y).backward()

    return plain


def learner_of(
    case: Case, device: torch.device, seed: int = 0
) -> tuple[Learner, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """A learner, and the images, labels and rate of a step."""
    registry.load()
    allow_tf32(case.precision)
    run = Run(
        data=Data(name="cifar10", samples_per_class=10),
        method=case.method,
        seed=seed,
        source=Source(),
        training=Training.model_validate({"precision": case.precision}),
        transfer=Transfer.model_validate({"inner": case.inner}),
    )
    learner = Learner(run, N_CLASSES, frozen_source(device), device)
    images = torch.randn(case.batch, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(N_CLASSES, (case.batch,), device=device)
    return learner, (images, labels, torch.tensor(0.1, device=device))
