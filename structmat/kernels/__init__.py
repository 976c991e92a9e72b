"""Products: the kernels, and the choice between them.

GBLR, block-sparse and block-low-rank matrices multiply by whichever kernel promises the
least time; `plan` says which one that is, `using` forces another. Other kinds multiply
by BLAS directly.

layouts      how packed contents lie in memory
cost_model   seconds that a kernel takes
arrays       kernels made of BLAS, PyTorch and SciPy
cpu          compiled kernels
triton       kernels for matrix units of a GPU
cuda         kernels in CUDA
choice       the table of kernels and the choice between them
plan         `plan`: which kernel multiplies, and what it is expected to take
"""

from structmat.kernels.choice.factored import using
from structmat.kernels.cpu.threads import num_threads
from structmat.kernels.plan import Plan, plan

__all__ = ["Plan", "num_threads", "plan", "using"]
