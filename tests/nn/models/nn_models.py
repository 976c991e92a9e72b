"""Small networks for the tests of whole-model conversion."""

import torch
import torch.nn.functional as F
from torch import nn


def mlp():
    """64-96-48-10; the last layer is too small to convert."""
    return nn.Sequential(
        nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 48), nn.ReLU(), nn.Linear(48, 10)
    )


class Idle(nn.Module):
    """Two layers of 32 to 32, of which the second never runs."""

    def __init__(self):
        super().__init__()
        self.used, self.idle = nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x):
        return self.used(x)


class Attention(nn.Module):
    """Packed queries, keys and values: (B, L, 32) to (B, L, 32)."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.proj(F.scaled_dot_product_attention(q, k, v))


class Classifier(nn.Module):
    """Patches by a convolution, attention, an MLP and a head on the mean token."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 4, stride=4)
        self.attention = Attention()
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, 16)

    def forward(self, images):
        x = self.stem(images).flatten(2).transpose(1, 2)
        x = x + self.attention(x)
        return self.head((x + self.mlp(x)).mean(1))


def convnet():
    """Several ways of padding, striding and dilating: (B, 16, 8, 8) to (B, 16, 3, 3)."""
    return nn.Sequential(
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(32, 32, (1, 3), padding="same", padding_mode="reflect"),
        nn.ReLU(),
        nn.Conv2d(32, 16, 3, stride=2, dilation=1),
    )


class Tied(nn.Module):
    """An embedding whose weight is that of the head as well."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(40, 32)
        self.inner = nn.Linear(32, 32)
        self.head = nn.Linear(32, 40, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens):
        return self.head(F.relu(self.inner(self.tokens(tokens))))


class Twins(nn.Module):
    """Two layers with one weight, and one layer under two names."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(32, 32), nn.Linear(32, 32)
        self.right.weight = self.left.weight
        self.both = nn.ModuleList([nn.Linear(32, 32)])
        self.again = self.both[0]

    def forward(self, x):
        return self.again(self.left(x)) + self.both[0](self.right(x))


class Conv1D(nn.Module):
    """What Hugging Face's layer of this name computes: the weight is (in, out)."""

    def __init__(self, outputs, inputs):
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return x @ self.weight + self.bias


# It is known by name, so that transformers need not be there.
Conv1D.__module__ = "transformers.pytorch_utils"
