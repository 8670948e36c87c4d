"""Co-Tuning (You et al., NeurIPS 2020): the source's classifier is trained on, with its classes' share in ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.methods.finetune import Finetune
from l2t_ray.methods.method import Batch, number, traced_alone, within
from l2t_ray.registry import Scalar

if TYPE_CHECKING:
    from torch import Tensor

    from l2t_ray.models import Backbone, TargetNetwork


@dataclass(frozen=True)
class CoTuning(Finetune):
    """Fine-tuning with a second cross-entropy, of the source's classes (their eq. 1).

    L_org + lambda mean over (x, y_t) of -sum over y_s of p(y_s given y_t) log q(y_s given x), with

    | symbol | code | meaning |
    | --- | --- | --- |
    | y_t, y_s | | classes of the target and of the source |
    | p(y_s given y_t) | `frozen["relation"]` | [N_t, N_s]: mean softmax of the source over y_t's images |
    | q(y_s given x) | `batch.target[-1]` | the softmax of the source's own classifier on the target's features |
    | lambda | `weight` | 2.3, as in TLlib |

    The source's classifier starts as the source left it and is trained with the rest; on test images it has no say. The
    relation is the paper's direct one, as in TLlib, without augmentation; the paper also learns it in reverse.
    """

    watches_source: bool = False

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """Checks also that the weight is not negative, and what the passes cannot do."""
        yield from Finetune.laws(self, run)
        yield from traced_alone(run)
        yield from within(run, "weight", 0)

    def refuse(self, run: Run, source: Backbone, classes: Sequence[str]) -> str | None:
        """Checks that the source has a classifier."""
        if source.n_classes > 1:
            return None
        rule = f"must have a classifier of at least two classes for {self.name}, got none"
        return f"{rule}; name a file with one, or take finetune"

    def target(self, run: Run, n_classes: int, source: Backbone | None) -> TargetNetwork:
        """Returns the network with the source's classifier beside its own, whose logits are a further level."""
        from l2t_ray.models import build
        from l2t_ray.models.headed import Headed

        assert source is not None
        target = run.target
        network = build(target.arch, target.width, n_classes, run.data.image_size, target.levels)
        return Headed(network, source.n_classes)

    def start(
        self, run: Run, network: TargetNetwork, source: Backbone | None
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Returns the source's values, its classifier under the name of the second one."""
        assert source is not None
        theta, statistics = Finetune.start(self, run, network, source)
        return {**theta, "second.weight": source.fc.weight, "second.bias": source.fc.bias}, statistics

    def study(
        self,
        run: Run,
        source: Backbone,
        batches: Callable[[], Iterable[tuple[Tensor, Tensor]]],
        n_classes: int,
    ) -> dict[str, Tensor]:
        """Returns p(y_s | y_t)."""
        import torch

        sums = source.fc.weight.new_zeros(n_classes, source.n_classes)
        numbers = sums.new_zeros(n_classes)
        with torch.no_grad():
            for images, labels in batches():
                sums.index_add_(0, labels, source(images).softmax(1))
                numbers += labels.bincount(minlength=n_classes)
        return {"relation": sums / numbers.clamp_min(1)[:, None]}

    def loss(self, extra: Mapping[str, Tensor], batch: Batch, options: Mapping[str, Scalar]) -> Tensor:
        """Returns the cross-entropy of the source's classifier, times lambda."""
        relation = batch.frozen["relation"]
        mixed = batch.labels.dim() > 1  # shares of the classes
        wanted = batch.labels.to(relation.dtype) @ relation if mixed else relation[batch.labels]
        log_q = batch.target[-1].flatten(1).log_softmax(1)
        return -number(options, "weight") * (wanted * log_q).sum(1).mean()


METHODS = (CoTuning("co_tuning", uses=frozenset({"source"}), options={"rate": 1.0, "weight": 2.3}),)
