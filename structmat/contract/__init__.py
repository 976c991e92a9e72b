"""Contract of a structured matrix, one part after another; `structmat.matrix` completes it.

operand, protocols, operators, entries
"""
