"""Networks of other libraries, with levels at places that the settings name, and their own initial weights.

Batch norm leaves its running statistics to the target (`backbone.BatchNorm`). Dropout and stochastic depth are off,
because the look-ahead of Algorithm 1 repeats passes.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.vision_transformer import interpolate_embeddings
from torchvision.ops import StochasticDepth

from l2t_ray.errors import InputError
from l2t_ray.hubs import hub_of
from l2t_ray.models.backbone import Backbone, BatchNorm
from l2t_ray.models.segments import Plan, make_plan, whole_plan
from l2t_ray.registry import IMAGE_SIZE, default_levels

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision's weights expect
PATCH = {"vit_b_16": 16}  # pixels of a transformer's patch
SEEDS = 2**62


class Zoo(Backbone):
    """A network of another library; its parameters have their names there after `body.`, the last layer's `fc.`.

    Args:
        arch: one of `registry.ZOO`, or a name that a hub knows (`hubs`).
        n_classes: outputs of the last layer.
        image_size: H = W of the images.
        levels: where maps are taken; the architecture's own by default.

    Raises:
        InputError: if a level does not exist, or the image size does not suit the network.
    """

    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = (MEAN, STD)

    def __init__(
        self, arch: str, n_classes: int, image_size: int = IMAGE_SIZE, levels: Sequence[str] | None = None
    ) -> None:
        self.plan = plan(arch, tuple(levels or default_levels(arch)), image_size)
        super().__init__(arch, 1.0, n_classes, self.plan.channels)
        self.image_size = image_size
        if hub := hub_of(arch):
            self.normalization = hub.known(arch).normalization
        self.body, self.fc = _take_apart(arch, _make(arch, n_classes, image_size))

    @property
    def sizes(self) -> tuple[int, ...]:
        """H = W of every level's maps."""
        return self.plan.sizes

    def outputs(
        self, x: Tensor, n_levels: int | None = None, draws: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Returns the maps of the first levels, and the logits if all levels are asked for."""
        self._move_tables(x)
        maps: list[Tensor] = []
        for segment in self.plan.segments:
            if n_levels is not None and len(maps) >= n_levels:
                break
            x, found = segment.function(self.body, x)
            maps += found
        return maps[:n_levels], self.fc(x) if n_levels is None else None

    def features(self, x: Tensor, n_levels: int | None = None, draws: Tensor | None = None) -> list[Tensor]:
        """Returns the maps of the first levels; tokens as maps of patches."""
        return self.outputs(x, len(self.channels) if n_levels is None else n_levels)[0]

    def _move_tables(self, x: Tensor) -> None:
        """Moves what a network of a hub looks up, such as relative positions, to the images' device."""
        for part in self.body.modules() if hub_of(self.arch) else ():
            for name, table in part.named_buffers(recurse=False):
                if table.device != x.device:
                    setattr(part, name, table.to(x.device))

    def redraw(self, generator: torch.Generator) -> None:
        """Draws the library's own initial weights."""
        seed = int(torch.randint(SEEDS, (), generator=generator))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body, self.fc = _take_apart(self.arch, _make(self.arch, self.n_classes, self.image_size))


class BatchNormAct(BatchNorm):
    """timm's batch norm with an activation behind it."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns the activation of x [B, C, H, W], normalised."""
        y: Tensor = self.get_submodule("act")(self.get_submodule("drop")(super().forward(x)))
        return y


class HardSigmoid(nn.Hardsigmoid):
    """torch.nn.Hardsigmoid, written out because the derivative of torch's own has no forward mode."""

    def forward(self, input: Tensor) -> Tensor:
        """Returns relu6(x + 3) / 6."""
        return F.relu6(input + 3) / 6


@lru_cache(maxsize=64)
def plan(arch: str, levels: tuple[str, ...], image_size: int) -> Plan:
    """Returns a network's segments and its levels' shapes; allocates nothing.

    Args:
        arch: one of `registry.ZOO`, or a name that a hub knows (`hubs`).
        levels: where maps are taken.
        image_size: H = W of the images.

    Raises:
        InputError: if a level does not exist, or the image size does not suit the network.
    """
    network = _make(arch, 1, image_size, "meta")
    _replace(network, _head(arch, network), nn.Identity())
    hub = hub_of(arch)
    return (make_plan if hub is None or hub.is_traced else whole_plan)(arch, network, levels, image_size)


def under_own_names(arch: str, image_size: int, official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns tensors under the names that `Zoo` has, position embeddings resized to the number of patches.

    Args:
        arch: one of `registry.ZOO`, or a name that a hub knows (`hubs`).
        image_size: H = W of the images.
        official: under torchvision's names; those of the last layer may be `fc.` instead.
    """
    state = dict(official)
    if arch in PATCH and getattr(state.get("encoder.pos_embedding"), "ndim", 0) == 3:
        state = dict(interpolate_embeddings(image_size, PATCH[arch], OrderedDict(state)))
    head = f"{_head(arch, _make(arch, 1, image_size, 'meta'))}."
    renamed = {name.replace(head, "fc.") if name.startswith(head) else name: tensor for name, tensor in state.items()}
    return {name if name.startswith("fc.") else f"body.{name}": tensor for name, tensor in renamed.items()}


def official_shapes(arch: str) -> dict[str, torch.Size]:
    """Returns the shapes of torchvision's parameters by their names, but for the last layer and for positions."""
    network = _make(arch, 1, 224, "meta")
    head = f"{_head(arch, network)}."
    named = network.named_parameters()
    return {name: p.shape for name, p in named if not name.startswith(head) and "pos_embedding" not in name}


def _make(arch: str, n_classes: int, image_size: int, device: str | None = None) -> nn.Module:
    """Returns a library's network, which draws and overwrites nothing in a forward pass."""
    sized = {}
    if arch in PATCH:
        if image_size % PATCH[arch]:
            rule = f"data.image_size must be a multiple of {PATCH[arch]}, the pixels of a patch of {arch}"
            raise InputError(f"{rule}, got {image_size}; correct it")
        sized = {"image_size": image_size}
    with torch.device(device) if device else contextlib.nullcontext():
        network: nn.Module = (
            hub.make(arch, n_classes, image_size)
            if (hub := hub_of(arch))
            else torchvision.models.get_model(arch, num_classes=n_classes, **sized)
        )
    for part in network.modules():
        if isinstance(part, nn.Dropout | StochasticDepth):
            part.p = 0.0
        if hasattr(part, "inplace"):
            part.inplace = False  # type: ignore[assignment]
    return network


def _take_apart(arch: str, network: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """Returns the network without its last layer, with our batch norm, and that layer."""
    head = _head(arch, network)
    last = network.get_submodule(head)
    assert isinstance(last, nn.Linear)
    _replace(network, head, nn.Identity())
    ours = {nn.BatchNorm2d: BatchNorm, nn.Hardsigmoid: HardSigmoid}
    for part in network.modules():  # a new class keeps tensors and settings
        part.__class__ = BatchNormAct if type(part).__name__ == "BatchNormAct2d" else ours.get(type(part), type(part))
    return network, last


def _head(arch: str, network: nn.Module) -> str:
    """Returns the name of the last linear layer."""
    if hub := hub_of(arch):
        return hub.known(arch).head
    linear: list[str] = [name for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    return linear[-1]


def _replace(network: nn.Module, name: str, part: nn.Module) -> None:
    above, _, own = name.rpartition(".")
    setattr(network.get_submodule(above), own, part)
