"""Linear probes, and surgical fine-tuning (Lee et al., ICLR 2023, arXiv 2210.11466): one part alone is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from l2t_ray.config import Run
from l2t_ray.methods.finetune import Finetune
from l2t_ray.methods.method import Stage, same_architecture, traced_alone
from l2t_ray.registry import Scalar

if TYPE_CHECKING:
    from l2t_ray.models import Backbone, TargetNetwork

CLASSIFIER = "fc."


@dataclass(frozen=True)
class LinearProbe(Finetune):
    """The source's features stay as they are; a new classifier alone is trained on L_org.

    min over W, b of the mean of H(y, W f(x) + b), with

    | symbol | code | meaning |
    | --- | --- | --- |
    | f(x) | what `fc` takes | the source's last features, in eval mode: its running statistics do not move |
    | W, b | `fc.weight`, `fc.bias` | the classifier, drawn anew |
    | H | | the cross-entropy |

    The linear evaluation of Kornblith, Shlens and Le (CVPR 2019, arXiv 1805.08974), with the run's SGD.
    """

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """Checks that the target has the source's architecture, and passes that can leave parts out."""
        yield from same_architecture(run)
        yield from traced_alone(run)

    def target(self, run: Run, n_classes: int, source: Backbone | None) -> TargetNetwork:
        """Returns the network whose other parts keep their values."""
        from l2t_ray.models import build
        from l2t_ray.models.partly import Partly

        target = run.target
        network = build(target.arch, target.width, n_classes, run.data.image_size, target.levels)
        return Partly(network, [name for name, rate in self.stage(0.0, run.options).rates.items() if rate])

    def stage(self, progress: float, options: Mapping[str, Scalar]) -> Stage:
        """Trains the classifier alone."""
        return Stage(rates={"": 0.0, CLASSIFIER: 1.0})


@dataclass(frozen=True)
class Surgical(LinearProbe):
    """One block of the source and a new classifier are trained on L_org; the rest stays as it is (their section 2).

    min over theta_S of the mean of H(y, f(x; theta_S, theta_source outside of S)), with

    | symbol | code | meaning |
    | --- | --- | --- |
    | S | `block`, and `fc` | the block's parameters, and the classifier's, whose classes are new |
    | theta_source | `start` | the source's values, running statistics included |

    The paper tunes each block in turn: the first ones suit other images, the last ones other classes. A grid over
    `options: {block: [...]}` does so.
    """

    def laws(self, run: Run) -> Iterable[tuple[str, str]]:
        """Checks also that the network has the block."""
        wrong = [*LinearProbe.laws(self, run)]
        yield from wrong
        if wrong:
            return
        from l2t_ray.models import parameter_shapes  # needs torch

        block = str(run.options["block"]).strip(".")
        names = [name.removeprefix("body.") for name in parameter_shapes(run.target) if not name.startswith(CLASSIFIER)]
        if not block or not any(name.startswith(f"{block}.") for name in names):
            rule = f"must be a part of {run.target.arch}, got {run.options['block']!r}"
            yield "options.block", f"{rule}; name one such as {', '.join(blocks(names))}"

    def stage(self, progress: float, options: Mapping[str, Scalar]) -> Stage:
        """Trains the block and the classifier."""
        block = str(options["block"]).strip(".")
        return Stage(rates={"": 0.0, CLASSIFIER: 1.0, f"{block}.": 1.0, f"body.{block}.": 1.0})


def blocks(names: Iterable[str]) -> list[str]:
    """Returns a network's parts by name, each up to its first number: `conv1`, `stages.0`."""
    found: dict[str, None] = {}
    for name in names:
        parts = name.split(".")[:-1]
        numbered = [place for place, part in enumerate(parts, 1) if any(map(str.isdigit, part))]
        if part := ".".join(parts[: numbered[0]] if numbered else parts):
            found[part] = None
    return [*found]


_USES = frozenset({"source"})
METHODS = (
    LinearProbe("linear_probe", uses=_USES),
    Surgical("surgical", uses=_USES, options={"block": ""}),
)
