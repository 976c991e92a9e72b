"""Projectors: the structure near a dense array under a cap on its multiplications.

runs       runs of rows, exactly, by a scan over two states
tiles      whole tiles by their energy
ranks      tiles of low rank, and low rank
order      orders of columns that make runs long
pursuit    rank-one blocks with free ends, one price for each multiplication
prices     the search for that price
vectors    steps on vectors, compiled or in arrays, with equal results
blocks     climbs, back-fits and births of blocks
compiled   loops that Numba compiles
"""
