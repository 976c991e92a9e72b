"""Benchmark of a GPU: `python -m benchmarks gpu`.

Running
    command, parts, child   the command line; what is measured; a process for each part
    session, ways           cases of one part under its time; calls eager, compiled and in a graph
    facts                   the GPU and its libraries
Parts
    checks                  tests that need a GPU
    products                matrices on CuPy and torch
    frozen                  layers in evaluation
    training, projections   steps of layers, and projections onto structures
    host                    host time and launches of a call, memory of a layer
    networks, decoding      whole networks
    step_bytes, counts      memory of their steps; the same and launches without a GPU
    shapes                  structures to measure on
Results
    targets, tables         limits to keep, and tables
"""
