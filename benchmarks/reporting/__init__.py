"""Reports of results: tables, plots and pages, for the suites and the experiments.

tables   tables for the terminal and for Markdown, made of rows of results
plots    figures of plain panels, and small PNG files
stamps   dates and commits of results
names    names for people in the place of codes
page     sections of a page of the documentation
front    the picture of the front page
"""
