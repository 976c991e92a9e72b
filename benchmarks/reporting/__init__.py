"""Reports of results: tables, plots and pages, for the suites and the experiments.

tables   tables for the terminal and for Markdown
"""
