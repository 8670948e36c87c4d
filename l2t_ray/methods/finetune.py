"""Fine-tuning (Yosinski et al., NIPS 2014, arXiv 1411.1792), also by way of an intermediate data set."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.methods.method import Method, Stage, number, same_architecture, within, without_classifier
from l2t_ray.registry import Scalar

if TYPE_CHECKING:
    from torch import Tensor

    from l2t_ray.models import Backbone, TargetNetwork


@dataclass(frozen=True)
class Finetune(Method):
    """The target starts as the source, with a new classifier, and is trained on L_org.

    `rate` is the copied layers' learning rate as a factor of `training.lr`: at 1 all layers train alike, as in the
    paper's fine-tuned networks; at 0 the copied layers do not change, as in its frozen ones.
    """

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """Checks that the target has the source's architecture, and that the rate is not negative."""
        yield from same_architecture(run)
        yield from within(run, "rate", 0)

    def start(
        self, run: Run, network: TargetNetwork, source: Backbone | None
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Returns the source's weights and running statistics without the classifier."""
        assert source is not None
        return without_classifier(network, source)

    def stage(self, progress: float, options: Mapping[str, Scalar]) -> Stage:
        """Trains the classifier at the full rate, all else at `rate` of it."""
        return Stage(rates={"": number(options, "rate"), "fc.": 1.0})


@dataclass(frozen=True)
class IntermediateFinetune(Finetune):
    """Fine-tuning of a source that was itself fine-tuned before, on an intermediate data set.

    Supplementary training on an intermediate task: Phang, Févry and Bowman 2018 (arXiv 1811.01088).
    """

    def refuse(self, run: Run, source: Backbone, classes: Sequence[str]) -> str | None:
        """Checks that the source was trained on at least two data sets, one after the other."""
        contents = [part.get("sha256") or (part.get("data"), part.get("classes")) for part in source.history]
        if any(one != other for one, other in itertools.pairwise(contents)):
            return None
        seen = " then ".join(str(part.get("data")) for part in source.history) or "a file of weights that names none"
        return (
            f"must have been trained on two data sets in turn for {self.name}, got {seen}; train it on with "
            "python -m l2t_ray.pretrain and `source: {weights: FILE}` in its settings, or take finetune"
        )


_USES = frozenset({"source"})
METHODS = (
    Finetune("finetune", uses=_USES, options={"rate": 1.0}),
    IntermediateFinetune("intermediate_finetune", uses=_USES, options={"rate": 1.0}),
)
