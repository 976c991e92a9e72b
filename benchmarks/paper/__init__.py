"""Figures that the pages on the paper need: `python -m benchmarks paper run` and `report`.

algorithm2   the published start from given weights, written from its description
measure      times of mask transforms and of starts from weights
tables       tables of the pages, from these and from other results
command      the command line, the result file, and the places of the tables
"""
