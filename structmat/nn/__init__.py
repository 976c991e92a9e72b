"""Structured layers for PyTorch whose structure is learned under one budget."""

from structmat.errors import MissingDependencyError

try:
    import safetensors as _safetensors  # noqa: F401
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as _missing:
    raise MissingDependencyError(
        f"structmat.nn needs {_missing.name}, which is not installed; install it with "
        "pip install 'structmat[torch]'"
    ) from None

from structmat.nn.budget import BudgetProjection
from structmat.nn.checkpoint import load_model, save_model
from structmat.nn.config import Config
from structmat.nn.conv import GaudiConv2d
from structmat.nn.cost import cost
from structmat.nn.freezing import freeze_, to_dense_
from structmat.nn.gaudi import GaudiWeight
from structmat.nn.linear import GaudiLinear
from structmat.nn.masks import gaudi_mask
from structmat.nn.model import convert_
from structmat.nn.packed import PackedLinear
from structmat.nn.proximal import parameter_groups
from structmat.nn.report import ConversionReport, LayerReport, ModelCost, SkippedLayer, Total
from structmat.nn.schedule import SigmaSchedule
from structmat.nn.search import EdgeSearch
from structmat.nn.shrinkage import MeanShrink, SoftThreshold
from structmat.nn.structure import GaudiStructure
from structmat.nn.structured import StructuredConv2d, StructuredLinear
from structmat.nn.structured_weight import StructuredWeight

__all__ = [
    "BudgetProjection",
    "Config",
    "ConversionReport",
    "EdgeSearch",
    "GaudiConv2d",
    "GaudiLinear",
    "GaudiStructure",
    "GaudiWeight",
    "LayerReport",
    "MeanShrink",
    "ModelCost",
    "PackedLinear",
    "SigmaSchedule",
    "SkippedLayer",
    "SoftThreshold",
    "StructuredConv2d",
    "StructuredLinear",
    "StructuredWeight",
    "Total",
    "convert_",
    "cost",
    "freeze_",
    "gaudi_mask",
    "load_model",
    "parameter_groups",
    "save_model",
    "to_dense_",
]
