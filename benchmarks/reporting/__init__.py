"""Reports of results: tables, plots and pages, for the suites and the experiments.

tables   tables for the terminal and for Markdown, made of rows of results
plots    figures of plain panels, and small PNG files
page     sections of a page of the documentation
"""
