"""Gaussian processes on compressed kernel matrices.

process      `GaussianProcess`: fit, predictions, likelihood
correlation  the matrix of a kernel with noise: solves, determinant, traces
forms        its forms: dense, compressed and factored, and by products alone
choice       the choice of a form, and the one place that makes it
likelihood   `LogLikelihood`, by the terms of a correlation and the values
search       the largest likelihood over the parameters
starts       points on which the search begins
predictions  means and variances at new points, some at a time
"""

from structmat.gp.likelihood import LogLikelihood
from structmat.gp.process import GaussianProcess

__all__ = ["GaussianProcess", "LogLikelihood"]
