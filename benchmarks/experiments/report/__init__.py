"""Pictures, tables and pages of experiments, from result files alone.

summary, worth, overview   learned structures on all data sets: sentences, tables, pictures
tables, rates, generalisation, advice_tables   tables of one experiment
figures, sentences   pictures of one experiment, and sentences with its figures
page   the page docs/evidence.md
"""
