"""Matrices larger than one machine: parts on the workers of a Dask cluster.

part                 a matrix on some rows and columns; cut and joined on one machine
tile_parts           the same for block low rank; the whole of parts of any kind
graph                graphs of pure tasks
product              products, by pieces that are added up
traffic              the bytes that products move
steps                steps of conjugate gradients, as they run on workers
conjugate_gradients  the recurrence
preconditioner       sparse approximate inverses whose rows lie on workers
solve                the factorization around both
matrix               the operator of SciPy's
shares               the rectangles of a compression, divided
facts                facts by which a compression is known again
folder               the files of a compression
stored               `load`, the matrix of a folder
forecast             memory that a compression takes, beside that of the workers
tasks                fits of rectangles, as they run on workers
building             the number of shares, and the wait for the parts
rectangles           the fit of hierarchical matrices
tiles                the fit of block low rank matrices
fit                  `structmat.compress` with a client
"""

from structmat.distributed.matrix import DistributedMatrix
from structmat.distributed.stored import load

__all__ = ["DistributedMatrix", "load"]
