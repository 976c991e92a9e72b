"""Estimators for scikit-learn's pipelines, on kernel matrices that are never formed.

checks    parameters of the estimators, and the kernel matrix that they stand for
features  `KernelFeatures`: a transformer whose inner products are near a kernel
ridge     `KernelRidge`: kernel ridge regression for many points
systems   the solves of `KernelRidge`
"""

from structmat.errors import MissingDependencyError

try:
    import sklearn  # noqa: F401
except ImportError:
    raise MissingDependencyError(
        "scikit-learn is not installed; install it with pip install 'structmat[sklearn]'"
    ) from None

from structmat.sklearn.features import KernelFeatures
from structmat.sklearn.ridge import KernelRidge

__all__ = ["KernelFeatures", "KernelRidge"]
