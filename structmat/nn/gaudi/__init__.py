"""GBLR weights whose block widths and locations are learned.

masks            boxcars with gradients
side             one side of all blocks in whole samples
samples          fractions of an axis to whole samples
structure        `GaudiStructure`: widths and locations as parameters
initial_runs     runs before training
initial_weight   runs, windows and contents before training, checked
factors          products by the blocks' factors
products         products by factors or by an assembled weight
weight           `GaudiWeight`
linear, conv     `GaudiLinear`, `GaudiConv2d`
"""

from structmat.nn.gaudi.conv import GaudiConv2d
from structmat.nn.gaudi.linear import GaudiLinear
from structmat.nn.gaudi.masks import gaudi_mask
from structmat.nn.gaudi.structure import GaudiStructure
from structmat.nn.gaudi.weight import GaudiWeight

__all__ = ["GaudiConv2d", "GaudiLinear", "GaudiStructure", "GaudiWeight", "gaudi_mask"]
