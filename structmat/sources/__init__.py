"""Sources: matrices that are known by their entries and are never formed.

source             the abstract source: blocks of entries, and products by blocks
kernel_matrix      `KernelMatrix`: a kernel at all pairs of points
kernel_checks      checks of its points, parameters and function
entries            `Entries`: a function of rows and columns
named_kernels      values of the named kernels, in any library
compiled_kernels   the same in compiled loops
tree               the k-d tree of points
views              a source on NumPy, or in other orders
ordering           `ordering`: neighbours stay together
"""

from structmat.sources.entries import Entries
from structmat.sources.kernel_matrix import KernelMatrix
from structmat.sources.ordering import ordering
from structmat.sources.source import Source as Source

__all__ = ["Entries", "KernelMatrix", "ordering"]
