"""Matrices larger than one machine: parts on the workers of a Dask cluster.

part                 a matrix on some rows and columns; cut and joined on one machine
shares               the rectangles of a compression, divided
graph                graphs of pure tasks
tasks                compressions, as they run on workers
fit                  the fits of `structmat.compress` that ask for them
product              products, by pieces that are added up
traffic              the bytes that products move
steps                steps of conjugate gradients, as they run on workers
conjugate_gradients  the recurrence
preconditioner       sparse approximate inverses whose rows lie on workers
solve                the factorization around both
matrix               the operator of SciPy's
"""

from structmat.distributed.matrix import DistributedMatrix

__all__ = ["DistributedMatrix"]
