"""LoRA's network (Hu et al., ICLR 2022, arXiv 2106.09685): linear layers with an update of low rank."""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from l2t_ray.models.backbone import Backbone, initialise


class Update(nn.Module):
    """W + scale B A; B starts at zero, so the layer starts as it was.

    Args:
        weight: W, [outputs, inputs].
        rank: rows of A and columns of B.
        scale: alpha / rank.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        n_outputs, n_inputs = weight.shape
        self.scale = scale
        self.a, self.b = nn.Parameter(torch.empty(rank, n_inputs)), nn.Parameter(torch.zeros(n_outputs, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Returns the layer's effective weight."""
        return weight + self.scale * (self.b @ self.a)

    def redraw(self, generator: torch.Generator) -> None:
        """Draws A as the authors' code does, uniform within 1 / sqrt(inputs), and sets B to zero."""
        with torch.no_grad():
            bound = 1 / math.sqrt(self.a.shape[1])
            self.a.copy_((2 * torch.rand(self.a.shape, generator=generator) - 1) * bound)
            self.b.zero_()


class LowRank(Backbone):
    """A network whose linear layers, all but the last, are updated; parameters `base.`, `lora.` and `fc.`.

    Args:
        base: a vision transformer; it is changed.
        rank: of the updates.
        scale: of the updates.
    """

    def __init__(self, base: Backbone, rank: int, scale: float) -> None:
        super().__init__(base.arch, base.width, base.n_classes, base.channels)
        self.image_size = base.image_size
        self.fc, self.lora = base.fc, nn.ModuleDict()  # before `base`, so that these are their parameters' names
        self.renamed: dict[str, str] = {}  # of the layers' weights, from the base's names
        for layer, part in [*base.named_modules()]:
            kind = "in_proj_weight" if isinstance(part, nn.MultiheadAttention) else "weight"
            if part is base.fc or not isinstance(part, nn.Linear | nn.MultiheadAttention):
                continue
            update = Update(getattr(part, kind), rank, scale)
            parametrize.register_parametrization(part, kind, update)
            self.lora[layer.replace(".", "-")] = update
            self.renamed[f"{layer}.{kind}"] = f"{layer}.parametrizations.{kind}.original"
        self.base = base

    @property
    def sizes(self) -> tuple[int, ...]:
        """H = W of every level's maps."""
        return self.base.sizes

    def own_name(self, name: str) -> str:
        """Returns the name of one of the base's parameters in this network."""
        return name if name.startswith("fc.") else f"base.{self.renamed.get(name, name)}"

    def outputs(
        self, x: Tensor, n_levels: int | None = None, draws: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Returns what the base does with the effective weights."""
        return self.base.outputs(x, n_levels)

    def features(self, x: Tensor, n_levels: int | None = None, draws: Tensor | None = None) -> list[Tensor]:
        """Returns the base's maps with the effective weights."""
        return self.base.features(x, n_levels)

    def redraw(self, generator: torch.Generator) -> None:
        """Draws the updates and the classifier; the source gives the rest."""
        for update in self.lora.values():
            assert isinstance(update, Update)
            update.redraw(generator)
        initialise(self.fc, generator)
