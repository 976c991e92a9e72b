"""Contract of a structured matrix, one part after another; `structmat.matrix` completes it.

operand      checks and layout of what a matrix multiplies
matrix_like  dense form, and Python's operators that are refused
dense_form   dense forms for functions that know no structure
answers      functions of NumPy and torch that structure answers
protocols    `Protocols`: what NumPy, SciPy and torch ask a matrix
operators    `Operators`: SciPy's interface, products, sums
entries      `EntryAccess`: entries, parts, diagonal, trace, norms
parts        `Parts`: arrays, children and static attributes; dtypes, libraries, multiples
remembered   `Remembered`: results that are computed once
"""
