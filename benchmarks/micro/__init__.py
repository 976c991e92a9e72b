"""Suites that time and check single parts of structmat: `python -m benchmarks SUITE`.

Suites
    products, compression, layers, learned, training
                                              what is measured, and how it is checked
    product_tables, compression_tables, layer_tables, learned_tables, training_tables
                                              their results as tables
    plots, report                             the page docs/benchmarks.md
Parts
    structures, gblr, inputs, data            matrices to measure on
    kernels, rivals, peers, peer_products     what structmat is measured against
    settings, timing, memory, growth, threads
                                              devices, clocks, memory
    targets, progress                         limits to keep, steps on a terminal
"""
