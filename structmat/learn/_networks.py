"""Networks for images and text, in plain torch: stem, blocks and head.

A stem (a GPT's `tokens`) makes vectors of the input, and a head makes classes of the last
vectors. The layers between them are worth converting.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from structmat.errors import InputError
from structmat.learn._blocks import MixerBlock, ResidualBlock, TransformerBlock

#: Standard deviation of fresh embeddings; all else starts as torch starts it.
_EMBEDDING_SCALE = 0.02


class MLP(nn.Module):
    """Multilayer perceptron on flattened images: two hidden layers, ReLU."""

    def __init__(self, image: tuple[int, int, int], classes: int, *, width: int) -> None:
        super().__init__()
        channels, height, breadth = image
        inputs = channels * height * breadth
        # No stem: the first layer is one of the large ones.
        self.layers = nn.ModuleList([nn.Linear(inputs, width), nn.Linear(width, width)])
        self.head = nn.Linear(width, classes)

    def forward(self, images: Any) -> Any:
        """Images (B, C, H, W) to logits (B, classes)."""
        x = images.flatten(1)
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.head(x)


class Mixer(nn.Module):
    """MLP-Mixer on square patches (Tolstikhin et al., arXiv 2105.01601).

    Hidden layers of the token MLPs are dim/2 wide, those of the channel MLPs 4 dim.
    Depth 8 with dim 512 and patches of 4 pixels is Mixer-S/4.
    """

    def __init__(
        self, image: tuple[int, int, int], classes: int, *, dim: int, depth: int, patch: int
    ) -> None:
        super().__init__()
        self.stem, tokens = _patches(image, dim, patch)
        self.blocks = nn.ModuleList([MixerBlock(tokens, dim) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, images: Any) -> Any:
        """Images (B, C, H, W) to logits (B, classes)."""
        x = _tokens(self.stem, images)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class VisionTransformer(nn.Module):
    """Vision transformer on square patches (Dosovitskiy et al., arXiv 2010.11929).

    Learned positions, layer norms in front, hidden layers 3 dim wide, and the mean over
    patches before the head in place of a class token. Depth 8 with dim 768, 8 heads and
    patches of 4 pixels is otherwise the ViT-S/4 for CIFAR of Lee & Kim (arXiv 2310.18882,
    section 5).
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        *,
        dim: int,
        depth: int,
        heads: int,
        patch: int,
    ) -> None:
        super().__init__()
        self.stem, tokens = _patches(image, dim, patch)
        self.positions = nn.Parameter(_EMBEDDING_SCALE * torch.randn(tokens, dim))
        blocks = [TransformerBlock(dim, heads, 3 * dim, causal=False) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, images: Any) -> Any:
        """Images (B, C, H, W) to logits (B, classes)."""
        x = _tokens(self.stem, images) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class ResNet(nn.Module):
    """Residual network for small images: stem of 3x3, no pooling after it.

    Each stage but the first halves the image. Two blocks a stage with widths 64, 128, 256
    and 512 are ResNet-18 (He et al., arXiv 1512.03385).
    """

    def __init__(
        self, image: tuple[int, int, int], classes: int, *, widths: Sequence[int], blocks: int
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(image[0], widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        inputs = [widths[0], *widths]
        self.blocks = nn.ModuleList(
            ResidualBlock(inputs[stage] if first else width, width, 2 if first and stage else 1)
            for stage, width in enumerate(widths)
            for first in [True] + [False] * (blocks - 1)
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Any) -> Any:
        """Images (B, C, H, W) to logits (B, classes)."""
        x = F.relu(self.norm(self.stem(images)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class GPT(nn.Module):
    """Decoder-only transformer: each position sees itself and those before it.

    Learned positions, layer norms in front, hidden layers 4 dim wide (Radford et al.,
    "Language Models are Unsupervised Multitask Learners", 2019). The head is the transpose
    of the token embedding, one parameter for both.
    """

    def __init__(self, vocabulary: int, context: int, *, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, dim)
        nn.init.normal_(self.tokens.weight, std=_EMBEDDING_SCALE)
        self.positions = nn.Parameter(_EMBEDDING_SCALE * torch.randn(context, dim))
        blocks = [TransformerBlock(dim, heads, 4 * dim, causal=True) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Any) -> Any:
        """Tokens (B, L) to logits (B, L, vocabulary) of the token that follows each."""
        length, context = tokens.shape[1], self.positions.shape[0]
        if length > context:
            raise InputError(
                f"{length} tokens; expected at most {context}, the context (cut the sequence, or "
                "build the model with a longer context)"
            )
        x = self.tokens(tokens) + self.positions[:length]
        for block in self.blocks:
            x = block(x)
        # Not a module of its own: files hold a shared weight once, and no converter splits it.
        return F.linear(self.norm(x), self.tokens.weight)


def _patches(image: tuple[int, int, int], dim: int, patch: int) -> tuple[nn.Conv2d, int]:
    """The layer that embeds patches, and how many patches there are."""
    channels, height, width = image
    if height % patch or width % patch:
        raise InputError(
            f"images of {height}x{width} pixels; expected sides that are multiples of {patch}, "
            "the size of a patch (pad or crop the images, or choose 'resnet' or 'mlp')"
        )
    stem = nn.Conv2d(channels, dim, patch, stride=patch)
    return stem, (height // patch) * (width // patch)


def _tokens(stem: nn.Conv2d, images: Any) -> Any:
    """Images (B, C, H, W) to patch vectors (B, tokens, dim)."""
    return stem(images).flatten(2).transpose(1, 2)
