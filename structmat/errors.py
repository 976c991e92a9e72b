"""What structmat refuses, and why. This module imports nothing.

Every refusal is a `StructmatError` and, at the same time, the built-in error that
a SciPy or torch user would expect (`ValueError`, `TypeError`, `OSError` or
`RuntimeError`). Each message gives the value met, what was wanted, and what to do.
"""

__all__ = [
    "BackendError",
    "BudgetError",
    "ConversionError",
    "FileFormatError",
    "InputError",
    "KindError",
    "MissingDependencyError",
    "SaveError",
    "ShapeError",
    "StructmatError",
    "ToleranceError",
    "TrainingError",
]


class StructmatError(Exception):
    """Base of every error that structmat raises on purpose."""


class InputError(StructmatError, ValueError):
    """A value is not what it has to be: NaN, a negative width, an unknown option."""


class ShapeError(InputError):
    """Shapes do not meet."""


class BackendError(StructmatError, TypeError):
    """Arrays of several libraries or devices meet, or an array is of no known library."""


class KindError(InputError):
    """No structure of that name is known."""


class BudgetError(InputError):
    """No matrix of the wanted kind is that cheap, or the budget is no fraction."""


class ToleranceError(InputError):
    """No matrix of the wanted kind comes that close."""


class ConversionError(InputError):
    """A conversion would not be exact; `compress` approximates instead."""


class FileFormatError(InputError):
    """A file is truncated, foreign, or from a newer version."""


class SaveError(StructmatError, OSError):
    """A file could not be written; what stood there before is untouched."""


class MissingDependencyError(StructmatError, ImportError):
    """An optional package is needed; the message names the extra that brings it."""


class TrainingError(StructmatError, RuntimeError):
    """Training cannot go on: the loss is no number any more."""
