"""Errors that structmat raises on purpose. This module imports NumPy alone.

Every refusal is a `StructmatError` and, at the same time, the built-in error that
a SciPy or torch user would expect (`ValueError`, `TypeError`, `OSError` or
`RuntimeError`). Each message gives the value, the expectation and the remedy.
"""

from numpy.linalg import LinAlgError

__all__ = [
    "BackendError",
    "BudgetError",
    "ConversionError",
    "FileFormatError",
    "InputError",
    "KindError",
    "MissingDependencyError",
    "OperationError",
    "SaveError",
    "ShapeError",
    "SolveError",
    "StructmatError",
    "ToleranceError",
    "TrainingError",
]


class StructmatError(Exception):
    """Base of every error that structmat raises on purpose."""


class InputError(StructmatError, ValueError):
    """An invalid value: NaN, a negative width, an unknown option."""


class ShapeError(InputError):
    """Shapes that do not fit together."""


class BackendError(StructmatError, TypeError):
    """Arrays of several libraries or devices together, or an array of an unknown library."""


class OperationError(StructmatError, TypeError, AttributeError):
    """An operation or a method of arrays that matrices do not have, such as absolute values."""


class KindError(InputError):
    """A kind that is not known, or a name that is taken."""


class BudgetError(InputError):
    """A budget that no matrix of the kind keeps, or that is no fraction in (0, 1]."""


class ToleranceError(InputError):
    """A tolerance that no matrix of the kind meets."""


class SolveError(InputError, LinAlgError):
    """A system that is singular, not definite where that was promised, or not solved well enough.

    It is a `numpy.linalg.LinAlgError`, too.
    """


class ConversionError(InputError):
    """A conversion that would not be exact; `compress` approximates instead."""


class FileFormatError(InputError):
    """A file that is truncated, foreign, or from a newer version."""


class SaveError(StructmatError, OSError):
    """A file that could not be written; an older file of that name is untouched."""


class MissingDependencyError(StructmatError, ImportError):
    """A missing optional package; the message names the extra that brings it."""


class TrainingError(StructmatError, RuntimeError):
    """A training that cannot go on: the loss is NaN or infinite."""


def first_line(error: BaseException) -> str:
    r"""First line of an error's message; empty where it has none.

    Examples
    --------
    >>> first_line(ValueError("one\ntwo")), first_line(ValueError())
    ('one', '')
    """
    return (str(error).splitlines() or [""])[0]
