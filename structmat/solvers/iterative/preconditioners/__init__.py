"""Preconditioners for Krylov methods, and the choice among them.

preconditioner        the abstract ones, and none
neighbours            nearest earlier points, in an order from coarse to fine
patterns              rows near each other, by points or by entries
sparse_inverse        Vecchia's approximation, or FSAI: a sparse inverse factor
sparse_inverse_loops  its compiled loops
blocks                the small blocks that it is made of
block_jacobi          diagonal tiles
hierarchical          hierarchical factors of low accuracy
choice                the forecast by which one is chosen
"""
