"""Compression to hierarchical matrices, of sources whose entries are evaluated where needed.

clusters   clusters of rows and columns, and the pairs of them that are far from each other
evaluate   rectangles approximated in pieces of work, in threads
loops      compiled cross approximation for named kernels
blocks     cross approximation by blocks of entries, for any source
assemble   ranks shared out among rectangles, and contents packed
fit        the fit of sources
"""
