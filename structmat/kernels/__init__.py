"""Products: the kernels, and the choice between them.

GBLR, block-sparse and block-low-rank matrices multiply by whichever kernel promises the
least time; `plan` says which one that is, `using` forces another. Other kinds multiply
by BLAS directly.
"""

from structmat.kernels.factored import using
from structmat.kernels.plan import Plan, plan
from structmat.kernels.threads import num_threads

__all__ = ["Plan", "num_threads", "plan", "using"]
