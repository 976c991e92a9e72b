"""Products: the kernels, and the choice between them.

GBLR, block-sparse and block-low-rank matrices multiply by the kernel that promises the
least time; `plan` names it, `using` forces another. Other kinds multiply by BLAS directly.

layouts      places of packed contents in memory
cost_model   time of kernels and of layers
bound        kernels bound to a matrix: their protocol, and products of two factors
arrays       kernels made of BLAS, PyTorch and SciPy
cpu          compiled kernels
triton       kernels for matrix units of a GPU
cuda         kernels in CUDA
choice       the table of kernels and the choice between them
plan         `plan`: the kernel that multiplies, and its expected time
"""

from structmat.kernels.choice.contexts import using
from structmat.kernels.cpu.threads import num_threads
from structmat.kernels.plan import Plan, plan

__all__ = ["Plan", "num_threads", "plan", "using"]
