"""Kinds of matrices: one record each, and rules for pairs of them.

record    `Kind`: name, label, colour, class and fits
built_in  records of structmat's own kinds
registry  every record by its name; other packages enter theirs
rules     what sums, products and conversions do with two kinds

A record names its class and its fits, which are imported when they are used. So this room knows
every structure and imports none.
"""

from structmat.kinds.built_in import BUILT_IN
from structmat.kinds.record import Kind, later
from structmat.kinds.registry import (
    all_kinds,
    compressible_kinds,
    enter_class,
    find_entries_fit,
    find_factorizations,
    find_fit,
    fitted_kinds,
    is_built_in,
    kind_class,
    kind_record,
    register,
)
from structmat.kinds.rules import contained_kinds, find_rules, rule

__all__ = [
    "BUILT_IN",
    "Kind",
    "all_kinds",
    "compressible_kinds",
    "contained_kinds",
    "enter_class",
    "find_entries_fit",
    "find_factorizations",
    "find_fit",
    "find_rules",
    "fitted_kinds",
    "is_built_in",
    "kind_class",
    "kind_record",
    "later",
    "register",
    "rule",
]
