"""Projectors: the structure near a dense array under a cap on its multiplications.

arguments  checks of energies, caps and prices
runs       runs of rows, exactly, by a scan over two states
filling    parts of runs that what is left of a cap holds
scan       the same scan as operations on arrays of any library
tiles      whole tiles by their energy
windows    windows that groups of rows share
regroup    rows put into the groups that hold most of them
ranks      tiles of low rank, and low rank
small_tiles  tiles of low rank, all decomposed at once
shares     ranks of tiles by the energy that a multiplication captures
svd        truncated singular value decompositions
reordered  arrays with rows and columns in other orders
order      orders of columns that make runs long
subsets    rank-one blocks on any rows and columns, from which orders follow
members    climbs and births of such blocks
pursuit    rank-one blocks with free ends, one price for each multiplication
prices     the search for that price
vectors    steps on vectors, compiled or in arrays, with equal results
blocks     climbs and back-fits of blocks
births     new blocks, the best ones first
compiled   loops that Numba compiles
"""
