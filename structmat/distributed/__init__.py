"""Matrices larger than one machine: parts on the workers of a Dask cluster.

``part``
    a matrix on some rows and columns, and how a local matrix is cut and joined.
``plan``
    graphs of pure tasks.
``product``
    products as tasks.
``matrix``
    the operator of SciPy's whose parts lie on workers.
``shares``
    rectangles divided into shares.
``facts``
    facts by which a compression is known again.
``forecast``
    memory that a compression takes, beside that of the workers.
``folder``
    files of a compression.
``tasks``
    what workers do in a compression.
``stored``
    `load`: the matrix of a folder.
``fit``
    compression on workers.
"""

from structmat.distributed.matrix import DistributedMatrix
from structmat.distributed.stored import load

__all__ = ["DistributedMatrix", "load"]
