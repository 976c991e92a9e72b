"""Benchmark of Gaussian processes, by `python -m benchmarks gp`.

command    the command line, cases, the result file
row        one measurement, in a process of its own
places     points and values: draws from a known process, earthquakes, files
libraries  structmat and others, each fitted with its own means
gpytorch_models
           the models of gpytorch
gradients  ways to the trace in a gradient, by accuracy and time
tables     section of docs/benchmarks.md
"""
