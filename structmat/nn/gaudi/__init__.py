"""GBLR weights whose block widths and locations are learned.

structure        widths and locations as parameters, and in whole samples
mask_tables      tables whose windows are masks and their derivatives
side             one side of all blocks in whole samples, with its masks
circles          masked contents on whole circles, in few operations, for devices
plain            products and masks by plain operations, for derivatives of every order
masks            masks of given widths and locations
initial_runs     runs before training
initial_weight   runs, windows and contents before training, checked
factors          products by the blocks' factors
products         products by factors or by an assembled weight
operators        products on a CPU as one operator, for compilers
routes           ways by which a weight multiplies, and gradients that it records
conversion       GBLR matrices to contents and runs, and back
state            settings in state dicts
weight           `GaudiWeight`
linear, conv     `GaudiLinear`, `GaudiConv2d`
"""

from structmat.nn.gaudi.conv import GaudiConv2d
from structmat.nn.gaudi.linear import GaudiLinear
from structmat.nn.gaudi.masks import gaudi_mask
from structmat.nn.gaudi.structure import GaudiStructure
from structmat.nn.gaudi.weight import GaudiWeight

__all__ = ["GaudiConv2d", "GaudiLinear", "GaudiStructure", "GaudiWeight", "gaudi_mask"]
