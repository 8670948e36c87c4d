"""SpotTune (Guo et al., CVPR 2019, arXiv 1811.08737): for each image a policy chooses which blocks are fine-tuned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.methods.method import Method, Stage, number, same_architecture, within
from l2t_ray.registry import SIZES, Scalar

if TYPE_CHECKING:
    from torch import Tensor

    from l2t_ray.models import Backbone, TargetNetwork

RESNETS = tuple(arch for arch in SIZES if arch.startswith("resnet"))


@dataclass(frozen=True)
class SpotTune(Method):
    """Trains the tuned blocks, the first convolution, the classifier and the policy on L_org alone.

    Temperature 5 and the policy's learning rate, a tenth of the target's (0.01 and 0.1), come from the authors' code.
    """

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """Checks that the target is a ResNet as deep and wide as the source, and the bounds of the options."""
        if run.target.arch not in RESNETS:
            rule = f"must be a ResNet of three stages, for {self.name} has every residual block twice"
            yield "target.arch", f"{rule}, got {run.target.arch}; name {', '.join(RESNETS)}"
        else:
            yield from same_architecture(run)
        yield from within(run, "temperature", 0, or_equal=False)
        yield from within(run, "policy_rate", 0)

    def target(self, run: Run, n_classes: int, source: Backbone | None) -> TargetNetwork:
        """Returns one network of both kinds of blocks and the policy."""
        from l2t_ray.models import ResNet, Traced
        from l2t_ray.models.spottuned import SpotTuned

        assert isinstance(source, ResNet)
        return Traced(SpotTuned(source, n_classes, number(run.options, "temperature")))

    def start(
        self, run: Run, network: TargetNetwork, source: Backbone | None
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Returns the source's values: the tuned blocks start as the frozen ones."""
        assert source is not None
        theta, statistics = network.values_of(source)
        return {name: p for name, p in theta.items() if not name.startswith("fc.")}, statistics

    def stage(self, progress: float, options: Mapping[str, Scalar]) -> Stage:
        """Trains the policy at a rate of its own."""
        return Stage(rates={"policy.": number(options, "policy_rate")})


METHODS = (SpotTune("spottune", uses=frozenset({"source"}), options={"temperature": 5.0, "policy_rate": 0.1}),)
