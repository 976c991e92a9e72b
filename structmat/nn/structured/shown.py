"""Layers and weights in notebooks."""

from abc import abstractmethod
from typing import Any

from structmat.kinds import later


class Shown:
    """Abstract layer or weight that a notebook shows with its facts and its blocks."""

    @abstractmethod
    def forward(self, *inputs: Any) -> Any:
        """The product, as of a `torch.nn.Module`."""

    def _repr_html_(self) -> str:
        return str(later("structmat.nn.models.shown:layer_html")(self))
