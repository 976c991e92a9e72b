"""Experiments: learned structure against other kinds at equal cost, on real data.

command    `python -m benchmarks experiments`
config     an experiment's file, with its cases and jobs; the files are in configs/
runner     runs one after another, each kept as soon as it is done
side_by_side  runs in several processes at once, on one device
training   one training: build, train, freeze, score, time
tasks      data and networks of an experiment
passages   authors of passages by letter pairs, a table of text
cases      the network of a case
narrow     dense networks of fewer units at the cost of a case
matrices   error against cost on real matrices
advice     gains that gradients foretell, fits of trained networks; advice_networks
minilm     a pre-trained model compressed, calibrated and distilled
clock      time of this process, inference time beside the dense network
supports   supports of layers before and after, structures with fresh contents
samples    scores over seeds, looked up in a result file
judged     learned structures beside their rivals, at each budget
report     pictures, tables and the pages, from result files alone
"""
