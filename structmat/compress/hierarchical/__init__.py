"""Compression to hierarchical matrices, of arrays and of sources, which are never formed.

clusters     clusters of rows and columns, and the pairs of them that are far from each other
evaluate     rectangles approximated in pieces of work, in threads
cross_loops  compiled cross approximation of a rectangle of a named kernel
loops        compiled loops over all of them
blocks       cross approximation by blocks of entries, for any source
assemble     ranks shared out among rectangles, and contents packed
look         what all rectangles will cost, by some of them
fit          the fit of sources
arrays       the fit of arrays
"""
