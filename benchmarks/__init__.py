"""Benchmarks of structmat: `python -m benchmarks`, from the root of the repository.

Each suite checks results first, then measures, prints tables and writes one JSON file
with the facts of the machine. `python -m benchmarks report` turns those files, and
nothing else, into the page docs/benchmarks.md and its plots in docs/_static/benchmarks.
"""
