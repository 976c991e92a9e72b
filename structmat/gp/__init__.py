"""Gaussian processes on compressed kernel matrices.

process      `GaussianProcess`: fit, predictions, likelihood
correlation  the matrix of a kernel with noise, and the one place that makes it
forms        its forms: dense, compressed and factored, and by products alone
likelihood   `LogLikelihood`, by the terms of a correlation and the values
search       the largest likelihood over the parameters
starts       points on which the search begins
predictions  means and variances at new points, some at a time
"""

from structmat.gp.likelihood import LogLikelihood
from structmat.gp.process import GaussianProcess

__all__ = ["GaussianProcess", "LogLikelihood"]
