"""LoRA (Hu et al., ICLR 2022, arXiv 2106.09685): the source stays as it is, and updates of low rank are trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.methods.method import Method, Stage, number, same_architecture, within
from l2t_ray.registry import Scalar

if TYPE_CHECKING:
    from torch import Tensor

    from l2t_ray.models import Backbone, TargetNetwork

TRANSFORMERS = ("vit", "vit_b_16")
OF_TIMM = "timm/vit_"


@dataclass(frozen=True)
class Lora(Method):
    """Trains W + (alpha / rank) B A in place of each linear layer's W, and the classifier, on L_org.

    The layers are those of attention and of the two-layer perceptrons. W, biases and layer norms stay the source's.
    """

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """Checks that the target is a vision transformer like the source, and the bounds of the options."""
        if run.target.arch not in TRANSFORMERS and not run.target.arch.startswith(OF_TIMM):
            rule = f"must be a vision transformer for {self.name}, which updates attention and perceptrons"
            yield "target.arch", f"{rule}, got {run.target.arch}; name {', '.join(TRANSFORMERS)} or {OF_TIMM}..."
        else:
            yield from same_architecture(run)
        if run.training.recompute:
            yield "training.recompute", f"must be false for {self.name}, got true; leave it out"
        yield from within(run, "rank", 1)
        yield from within(run, "alpha", 0, or_equal=False)

    def target(self, run: Run, n_classes: int, source: Backbone | None) -> TargetNetwork:
        """Returns the network with its updates."""
        from l2t_ray.models import Traced, build
        from l2t_ray.models.low_rank import LowRank

        target, rank = run.target, int(run.options["rank"])
        base = build(target.arch, target.width, n_classes, run.data.image_size, target.levels)
        return Traced(LowRank(base, rank, number(run.options, "alpha") / rank))

    def start(
        self, run: Run, network: TargetNetwork, source: Backbone | None
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Returns the source's weights, but for the classifier."""
        from l2t_ray.models import Traced
        from l2t_ray.models.low_rank import LowRank

        assert isinstance(network, Traced)
        assert isinstance(network.module, LowRank)
        assert source is not None
        theta, statistics = network.values_of(source)
        own = {network.module.own_name(name): p for name, p in theta.items() if not name.startswith("fc.")}
        return own, statistics

    def stage(self, progress: float, options: Mapping[str, Scalar]) -> Stage:
        """Trains the updates and the classifier alone."""
        return Stage(rates={"": 0.0, "lora.": 1.0, "fc.": 1.0})


METHODS = (Lora("lora", uses=frozenset({"source"}), options={"rank": 8, "alpha": 8.0}),)
