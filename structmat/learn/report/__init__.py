"""The report of a learning experiment: one HTML file that needs nothing but a browser.

write     `write_report`: the page
figures   its charts, as images inside the page
summary   the table of kinds, on the page and in a notebook
results   results of runs, gathered by kind and by layer
"""

from structmat.learn.report.write import write_report

__all__ = ["write_report"]
