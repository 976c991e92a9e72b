"""Benchmark of matrices that are never formed, by `python -m benchmarks scale`.

command   the command line, growth exponents, the result file
row       one measurement, in a process of its own
places    points and matrices, memory of a process
peers     other libraries at the same points, where they are installed
growth    growth with points and with workers, on a Dask cluster
solves    solves and determinants: cases and measurements
solve_targets
          which of their figures meet their targets
tables, solve_tables
          sections of docs/benchmarks.md
"""
