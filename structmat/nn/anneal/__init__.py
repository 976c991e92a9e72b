"""Weights that learn their structure from a dense start, by projections.

weight       `AnnealWeight`: a dense weight on its support, and then contents of blocks
flat         matrices around contents in a flat tensor
linear       `AnnealLinear`
conv         `AnnealConv2d`
projected    the result of a projection: support, order, blocks, cost
projectors   projections of an array by the kind of structure
gblr         projections onto row runs, and onto blocks
sides        sides of tiles and groups of outputs
grouped      projections onto windows that groups of outputs share
state        support, order and blocks in state dicts
"""

from structmat.nn.anneal.weight import AnnealWeight

__all__ = ["AnnealWeight"]
