"""Benchmark of matrices that are never formed, by `python -m benchmarks scale`.

command   the command line, growth exponents, the result file
row       one measurement, in a process of its own
peers     other libraries at the same points, where they are installed
"""
