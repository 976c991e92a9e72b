"""Structured layers for PyTorch whose structure is learned under one budget.

structured   layers with a fixed structure of any kind
gaudi        weights whose structure is learned through masks
anneal       weights whose structure is learned from a dense start
training     rules after an optimizer step: budgets, thresholds, schedules
starts       matrices that layers begin with: random ones, and fits of given weights
models       whole models: conversion, freezing, cost
advice       kinds, starts and budgets worth trying, before a conversion
files        whole models in files
pretrained   structure in Hugging Face's pretrained models
hf           Hugging Face's transformers
lightning    Lightning
sharded      parameters that may be sharded over processes
"""

from structmat.errors import MissingDependencyError

try:
    import safetensors as _safetensors  # noqa: F401
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as _missing:
    raise MissingDependencyError(
        f"structmat.nn needs {_missing.name}, which is not installed; install it with "
        "pip install 'structmat[torch]'"
    ) from None

from structmat.nn.advice.advice import Advice, LayerAdvice
from structmat.nn.advice.advise import advise
from structmat.nn.anneal.conv import AnnealConv2d
from structmat.nn.anneal.linear import AnnealLinear
from structmat.nn.anneal.weight import AnnealWeight
from structmat.nn.files.checkpoint import load_model, save_model
from structmat.nn.gaudi.conv import GaudiConv2d
from structmat.nn.gaudi.linear import GaudiLinear
from structmat.nn.gaudi.masks import gaudi_mask
from structmat.nn.gaudi.structure import GaudiStructure
from structmat.nn.gaudi.weight import GaudiWeight
from structmat.nn.models.changed import FOLLOWERS as _FOLLOWERS
from structmat.nn.models.config import Config
from structmat.nn.models.convert import convert_
from structmat.nn.models.cost import cost
from structmat.nn.models.freeze import freeze_, to_dense_
from structmat.nn.models.report import ConversionReport, LayerReport, ModelCost, SkippedLayer, Total
from structmat.nn.models.times import LayerTime, ModelTimes
from structmat.nn.pretrained.follow import follow as _follow
from structmat.nn.structured.layers import StructuredConv2d, StructuredLinear
from structmat.nn.structured.packed import PackedLinear
from structmat.nn.structured.weight import StructuredWeight
from structmat.nn.training.anneal import Anneal
from structmat.nn.training.budget_projection import BudgetProjection
from structmat.nn.training.parameter_groups import parameter_groups
from structmat.nn.training.shrinkage import MeanShrink, SoftThreshold
from structmat.nn.training.sigma import SigmaSchedule

_FOLLOWERS.append(_follow)

__all__ = [
    "Advice",
    "Anneal",
    "AnnealConv2d",
    "AnnealLinear",
    "AnnealWeight",
    "BudgetProjection",
    "Config",
    "ConversionReport",
    "GaudiConv2d",
    "GaudiLinear",
    "GaudiStructure",
    "GaudiWeight",
    "LayerAdvice",
    "LayerReport",
    "LayerTime",
    "MeanShrink",
    "ModelCost",
    "ModelTimes",
    "PackedLinear",
    "SigmaSchedule",
    "SkippedLayer",
    "SoftThreshold",
    "StructuredConv2d",
    "StructuredLinear",
    "StructuredWeight",
    "Total",
    "advise",
    "convert_",
    "cost",
    "freeze_",
    "gaudi_mask",
    "load_model",
    "parameter_groups",
    "save_model",
    "to_dense_",
]
