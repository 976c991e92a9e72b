"""Layers whose weights are structured matrices of any kind, with a fixed structure.

parameters    contents of a matrix as parameters of a module
remembered    matrices kept around contents, until the contents change
shown         layers and weights in notebooks
state         structure of weights as a tensor in state dicts
structure     structure of a matrix, described and put around other contents
weight        `StructuredWeight`: a matrix as a module
expected      expected times of a product
devices       whether a device is apart from the host
speed         the choice between the structure and its dense weight
placed        dense weights whose contents are put in their places at once
placed_pair   the same for sums of blocks, in two factors
products      products by either, plus a bias
calibrate     measuring the coefficients of that choice
convolution   the common part of convolutions by one matrix, or one a tap
layers        `StructuredLinear`, `StructuredConv2d`
packed        `PackedLinear`: several weights behind one layer
attention     `SplitAttention`: attention with a layer for each projection
"""

from structmat.nn.structured.layers import StructuredConv2d, StructuredLinear
from structmat.nn.structured.packed import PackedLinear
from structmat.nn.structured.weight import StructuredWeight

__all__ = ["PackedLinear", "StructuredConv2d", "StructuredLinear", "StructuredWeight"]
