"""Reliability: long tables of tests, counted, and the page that shows the counts.

command    `python -m benchmarks reliability SUITE… | report`
suites     the long tests, run by pytest and counted
coverage   branches that the default tests reach, and reasons for those that they miss
mutants    small faults put into chosen functions, and the tests that notice them
page       docs/develop/reliability.md, from the result files
"""
