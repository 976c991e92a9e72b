"""Figures that the pages on the paper need: `python -m benchmarks paper run` and `report`.

algorithm2   the published start from given weights, written from its description
measure      times of mask transforms and of starts from weights
planted      both ways to learn on planted matrices
subspaces    ALDS with one subspace a layer and with several
tables       tables of the pages by name, and those of these measurements
score_tables tables from the results of experiments
command      the command line, the result file, and the places of the tables
"""
