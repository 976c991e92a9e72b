"""Larger matrices from smaller ones: structured where that is exact, lazy otherwise.

arguments   what these functions take, as structured matrices
kronecker   `kron`
placing     the structure that holds blocks at places of a grid
blocks      `block`, `concatenate`, `block_diag`
stack       `stack`: a batch of matrices of one shape
"""

from structmat.algebra.blocks import block as block
from structmat.algebra.blocks import block_diag as block_diag
from structmat.algebra.blocks import concatenate as concatenate
from structmat.algebra.kronecker import kron as kron
from structmat.algebra.stack import MatrixStack as MatrixStack
from structmat.algebra.stack import stack as stack
