"""The networks that `structmat learn` trains, in plain torch.

All weights are in `torch.nn.Linear` and `torch.nn.Conv2d` modules. A layer `stem` (a GPT's
`tokens`) makes vectors of the input and a layer `head` classes of the last vectors; what
lies between is what is worth converting.
"""

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from structmat.errors import InputError
from structmat.learn._blocks import MixerBlock, ResidualBlock, TransformerBlock

__all__ = ["MODELS", "build_model"]

# What a size means, model by model.
_SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "mlp": {"small": {"width": 256}, "full": {"width": 512}},
    "mixer": {
        "small": {"dim": 128, "depth": 4, "patch": 4},
        "full": {"dim": 512, "depth": 8, "patch": 4},
    },
    "vit": {
        "small": {"dim": 128, "depth": 4, "heads": 4, "patch": 4},
        "full": {"dim": 768, "depth": 8, "heads": 8, "patch": 4},
    },
    "resnet": {
        "small": {"widths": (16, 32, 64), "blocks": 1},
        "full": {"widths": (64, 128, 256, 512), "blocks": 2},
    },
    "gpt": {
        "small": {"dim": 128, "depth": 2, "heads": 4},
        "full": {"dim": 384, "depth": 6, "heads": 6},
    },
}
#: Names that `build_model` takes.
MODELS = tuple(_SIZES)
_CONTEXT = {"small": 128, "full": 256}
# Standard deviation of embeddings at the start; all else starts as torch starts it.
_SMALL = 0.02


def build_model(
    name: str,
    *,
    size: str | Mapping[str, Any] = "small",
    image: tuple[int, int, int] | None = None,
    classes: int | None = None,
    vocabulary: int | None = None,
    context: int | None = None,
) -> nn.Module:
    """A network by name, freshly initialised from torch's random generator.

    Parameters
    ----------
    name : str
        ``"mlp"``, ``"mixer"``, ``"vit"`` and ``"resnet"`` classify images, ``"gpt"``
        predicts the next token.
    size : str or mapping
        ``"small"`` trains in minutes on a CPU. ``"full"`` is ViT-S/4 or Mixer-S/4 for
        CIFAR, ResNet-18 for images of 32x32, an MLP with hidden layers of 512 instead of
        256, or a GPT of 10.8 million parameters. A mapping gives the sizes themselves:
        ``width`` (mlp), ``dim``, ``depth``, ``patch`` (mixer, vit), ``heads`` (vit, gpt),
        ``widths`` and ``blocks`` (resnet); what it leaves out is as in ``"small"``.
    image : tuple of int, optional
        Channels, height and width; needed by the image models and by them only.
    classes : int, optional
        Number of classes; needed by the image models and by them only.
    vocabulary : int, optional
        Number of tokens of a GPT; 256, one a byte, by default.
    context : int, optional
        Longest sequence of a GPT; 128 (small) or 256 (full) by default.

    Returns
    -------
    Module
        It maps images (B, C, H, W) to logits (B, classes), or tokens (B, L) to logits
        (B, L, vocabulary).

    Raises
    ------
    InputError
        If the name or the size is unknown, or the data do not fit the model.

    Examples
    --------
    >>> import torch
    >>> from structmat.learn.models import build_model
    >>> _ = torch.manual_seed(0)
    >>> model = build_model("vit", image=(1, 8, 8), classes=10)
    >>> model(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """
    if name not in MODELS:
        raise InputError(f"model = {name!r}; expected one of {', '.join(MODELS)} (choose one)")
    shape = _shape(name, size)
    if name == "gpt":
        _leave_out(name, "images", "choose an image model", image=image, classes=classes)
        vocabulary = 256 if vocabulary is None else _whole(vocabulary, "vocabulary", 2)
        longest = _CONTEXT["full" if size == "full" else "small"]
        context = longest if context is None else _whole(context, "context", 1)
        return _GPT(vocabulary, context, **shape)
    _leave_out(name, "text", "choose 'gpt'", vocabulary=vocabulary, context=context)
    if not isinstance(image, Sequence) or len(image) != 3:
        raise InputError(
            f"image = {image!r}; {name} expected channels, height and width (give all three, "
            "or choose 'gpt' for text)"
        )
    lengths = tuple(_whole(length, "a length of image", 1) for length in image)
    builders = {"mlp": _MLP, "mixer": _Mixer, "vit": _VisionTransformer, "resnet": _ResNet}
    return builders[name](lengths, _whole(classes, "classes", 2), **shape)


def _shape(name: str, size: str | Mapping[str, Any]) -> dict[str, Any]:
    """What a size means for a model."""
    sizes = _SIZES[name]
    if isinstance(size, Mapping):
        unknown = sorted(size.keys() - sizes["small"].keys())
        if unknown:
            raise InputError(
                f"size of {name} names {unknown}; expected among {sorted(sizes['small'])}"
            )
        return {**sizes["small"], **size}
    if size not in sizes:
        raise InputError(f"size = {size!r}; expected small or full (choose one)")
    return sizes[size]


def _whole(value: Any, name: str, least: int) -> int:
    if not isinstance(value, numbers.Integral) or value < least:
        raise InputError(f"{name} = {value!r}; expected an integer of at least {least} (change it)")
    return int(value)


def _leave_out(model: str, data: str, remedy: str, **given: Any) -> None:
    """Refuse what belongs to the other sort of data."""
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"{name} = {value!r} with {model}, which does not take {data}; expected None "
                f"(leave it out, or {remedy})"
            )


class _MLP(nn.Module):
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


class _Mixer(nn.Module):
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


class _VisionTransformer(nn.Module):
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
        self.positions = nn.Parameter(_SMALL * torch.randn(tokens, dim))
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


class _ResNet(nn.Module):
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


class _GPT(nn.Module):
    """Decoder-only transformer: each position sees itself and those before it.

    Learned positions, layer norms in front, hidden layers 4 dim wide (Radford et al.,
    "Language Models are Unsupervised Multitask Learners", 2019). The head is the transpose
    of the token embedding, one parameter for both.
    """

    def __init__(self, vocabulary: int, context: int, *, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, dim)
        nn.init.normal_(self.tokens.weight, std=_SMALL)
        self.positions = nn.Parameter(_SMALL * torch.randn(context, dim))
        blocks = [TransformerBlock(dim, heads, 4 * dim, causal=True) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Any) -> Any:
        """Tokens (B, L) to logits (B, L, vocabulary) of the token that follows each.

        Raises
        ------
        InputError
            If L is longer than the context.
        """
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
