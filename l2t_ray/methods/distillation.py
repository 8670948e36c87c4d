"""Logit distillation (Hinton, Vinyals and Dean 2015, arXiv 1503.02531)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.methods.method import Batch, Method, number, within
from l2t_ray.registry import Scalar

if TYPE_CHECKING:
    from torch import Tensor

    from l2t_ray.models import Backbone


@dataclass(frozen=True)
class Distillation(Method):
    """(1 - alpha) L_org + alpha t^2 KL(source || target), both softened by the temperature t (their section 2).

    The paper gives the soft targets' term "considerably" more weight and names temperatures from 2 to 20; 4 and 0.9 are
    the values most used since (Zagoruyko and Komodakis 2017, section 4).
    """

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """Checks that the temperature is positive and alpha from 0 to 1."""
        yield from within(run, "temperature", 0, or_equal=False)
        yield from within(run, "alpha", 0, 1)

    def refuse(self, run: Run, source: Backbone, classes: Sequence[str]) -> str | None:
        """Checks that the source knows the target's classes."""
        return classes_not_shared(self.name, source, classes)

    def loss(self, extra: Mapping[str, Tensor], batch: Batch, options: Mapping[str, Scalar]) -> Tensor | None:
        """Returns what turns L_org into the weighted sum."""
        from torch.nn import functional as F

        assert batch.source_logits is not None  # `refuse` has checked it
        t, alpha = number(options, "temperature"), number(options, "alpha")
        ours, theirs = ((z / t).log_softmax(1) for z in (batch.logits, batch.source_logits))
        soft = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
        return alpha * (t * t * soft - F.cross_entropy(batch.logits, batch.labels))


def classes_not_shared(method: str, source: Backbone, classes: Sequence[str]) -> str | None:
    """Returns why a method cannot read the source's logits for the target's classes; None where it can."""
    remedy = "train a source on these classes with python -m l2t_ray.pretrain, or take another method"
    if source.classes is None:
        return f"must name its classes for {method}, got a file of weights without them; {remedy}"
    missing = [name for name in classes if name not in source.classes]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        return f"must have learned the target's classes for {method}, got a source without {shown}; {remedy}"
    if twice := [name for name in classes if source.classes.count(name) > 1]:
        rule = f"must have one output for each of the target's classes for {method}"
        return f"{rule}, got several called {twice[0]}; give each another name in its `classes`"
    return None


METHODS = (Distillation("distillation", uses=frozenset({"source"}), options={"temperature": 4.0, "alpha": 0.9}),)
