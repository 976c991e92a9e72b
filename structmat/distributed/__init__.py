"""Matrices larger than one machine: parts on the workers of a Dask cluster.

``part``
    a matrix on some rows and columns, and how a local matrix is cut and joined.
``product``
    products as graphs of pure tasks.
``matrix``
    the operator of SciPy's whose parts lie on workers.
"""

from structmat.distributed.matrix import DistributedMatrix

__all__ = ["DistributedMatrix"]
