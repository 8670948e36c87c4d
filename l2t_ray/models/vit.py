"""A small vision transformer (Dosovitskiy et al. 2021), whose blocks' outputs are reshaped to maps.

Patches of 4 x 4 pixels give 64 tokens for images of 32 x 32, so every block's output is a map of 8 x 8. Blocks
normalise first, positions are learned, and the mean over the tokens is classified. There is no class token, so a map
holds every token.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from l2t_ray.errors import InputError
from l2t_ray.models.backbone import Backbone
from l2t_ray.registry import IMAGE_SIZE, VIT_BLOCKS, VIT_PATCHES

N_CHANNELS, N_HEADS, MLP_RATIO = 192, 3, 2  # at width 1; ViT-Tiny's channels and heads (Touvron et al. 2021)
PATCH = IMAGE_SIZE // VIT_PATCHES


class Block(nn.Module):
    """Self-attention and a two-layer perceptron, each after a layer norm and added to its input."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(n_channels), nn.LayerNorm(n_channels)
        self.qkv, self.out = nn.Linear(n_channels, 3 * n_channels), nn.Linear(n_channels, n_channels)
        self.up, self.down = (
            nn.Linear(n_channels, MLP_RATIO * n_channels),
            nn.Linear(MLP_RATIO * n_channels, n_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns tokens [B, P, C] from tokens."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, N_HEADS, -1)).permute(2, 0, 3, 1, 4)
        # written out, because the fused attention has no forward-mode derivative
        attention = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
        x = x + self.out((attention @ v).transpose(1, 2).flatten(2))
        tokens: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return tokens


class Vit(Backbone):
    """The vision transformer; a level is a block.

    Args:
        width: factor on the channels, 192 at 1; rounded to a multiple of the three heads.
        n_classes: outputs of the last layer.
        image_size: H = W of the images, a multiple of the patches' 4 pixels.

    Raises:
        InputError: if it is none.
    """

    linear_std = 0.02  # the papers'

    def __init__(self, width: float, n_classes: int, image_size: int = IMAGE_SIZE) -> None:
        if image_size % PATCH:
            rule = f"data.image_size must be a multiple of {PATCH}, the pixels of a patch of vit"
            raise InputError(f"{rule}, got {image_size}; correct it")
        n_channels = N_HEADS * max(1, round(width * N_CHANNELS / N_HEADS))
        super().__init__("vit", width, n_classes, [n_channels] * VIT_BLOCKS)
        self.patch = nn.Conv2d(3, n_channels, PATCH, PATCH)
        self.n_patches = image_size // PATCH  # along each side
        self.position = nn.Embedding(self.n_patches**2, n_channels)
        self.blocks = nn.ModuleList(Block(n_channels) for _ in range(VIT_BLOCKS))
        self.norm = nn.LayerNorm(n_channels)
        self.fc = nn.Linear(n_channels, n_classes)

    def features(self, x: Tensor, n_levels: int | None = None, draws: Tensor | None = None) -> list[Tensor]:
        """Returns [B, C, H / 4, W / 4] after each block, for x [B, 3, H, W]."""
        tokens = self.patch(x).flatten(2).mT + self.position.weight
        outputs = []
        for block in self.blocks[:n_levels]:
            tokens = block(tokens)
            outputs.append(tokens.mT.unflatten(2, (self.n_patches, self.n_patches)))
        return outputs

    def classify(self, last: Tensor) -> Tensor:
        """Applies layer norm, the mean over the tokens and the linear layer."""
        logits: Tensor = self.fc(self.norm(last.flatten(2).mT).mean(1))
        return logits
