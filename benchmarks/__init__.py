"""Benchmarks of structmat: `python -m benchmarks`, from the root of the repository.

Each suite checks results first, then measures, prints tables and writes one JSON file
with the facts of the machine. `python -m benchmarks report` turns those files, and
nothing else, into the page docs/benchmarks.md and its plots in docs/_static/benchmarks.

micro         suites that time and check single parts: `python -m benchmarks SUITE`
gpu           tests, products, layers and networks on a GPU: `python -m benchmarks gpu`
experiments   learned structure on real data: `python -m benchmarks experiments`
paper         figures of the pages on the paper: `python -m benchmarks paper`
models        layers and conversions that structmat is compared with, and a real model
reporting     tables, plots and pages of results
results       rows of figures and their JSON files
machine       facts about the machine
"""
