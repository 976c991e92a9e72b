"""Kinds of matrices: one record each, and rules for pairs of them.

record    `Kind`: name, label, colour, class and fits
built_in  records of structmat's own kinds
registry  every record by its name; other packages enter theirs
rules     what sums, products and conversions do with two kinds

A record names its class and its fits, which are imported when they are used. So this room knows
every structure and imports none.
"""

from structmat.kinds.built_in import BUILT_IN as BUILT_IN
from structmat.kinds.record import Kind
from structmat.kinds.record import later as later
from structmat.kinds.registry import all_kinds as all_kinds
from structmat.kinds.registry import compressible_kinds as compressible_kinds
from structmat.kinds.registry import enter_class as enter_class
from structmat.kinds.registry import find_entries_fit as find_entries_fit
from structmat.kinds.registry import find_factorizations as find_factorizations
from structmat.kinds.registry import find_fit as find_fit
from structmat.kinds.registry import fitted_kinds as fitted_kinds
from structmat.kinds.registry import is_built_in as is_built_in
from structmat.kinds.registry import kind_class as kind_class
from structmat.kinds.registry import kind_record as kind_record
from structmat.kinds.registry import register
from structmat.kinds.rules import contained_kinds as contained_kinds
from structmat.kinds.rules import find_rules as find_rules
from structmat.kinds.rules import rule

__all__ = ["Kind", "register", "rule"]
