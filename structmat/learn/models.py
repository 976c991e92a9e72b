"""Networks that `structmat learn` trains, by name and size.

All weights are in `torch.nn.Linear` and `torch.nn.Conv2d` modules.
"""

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from structmat.errors import InputError

# Files of whole networks that version 0.1.0 pickled name these classes here.
from structmat.learn._networks import GPT as _GPT
from structmat.learn._networks import MLP as _MLP
from structmat.learn._networks import Mixer as _Mixer
from structmat.learn._networks import ResNet as _ResNet
from structmat.learn._networks import VisionTransformer as _VisionTransformer

__all__ = ["MODELS", "build_model"]

# Sizes of each model by name.
_SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "mlp": {"small": {"width": 256}, "full": {"width": 1024}},
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
# Tokens of a sequence.
_CONTEXT = {"small": 128, "full": 256}


def build_model(
    name: str,
    *,
    size: str | Mapping[str, Any] = "small",
    image: tuple[int, int, int] | None = None,
    classes: int | None = None,
    vocabulary: int | None = None,
    context: int | None = None,
) -> nn.Module:
    """Network by name, freshly initialised from torch's random generator.

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
    """Sizes of a model, from the name of a size or from a mapping."""
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
    """Refuse arguments that belong to the other sort of data."""
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"{name} = {value!r} with {model}, which does not take {data}; expected None "
                f"(leave it out, or {remedy})"
            )
