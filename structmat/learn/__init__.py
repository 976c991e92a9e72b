"""Learning experiments: networks with structured layers, their training and its report.

data         data sets
models       networks by name and size
tasks        batches, loss and score of a data set with a network
devices      devices by name, and the examples that they keep
settings     settings of a training and their defaults
train        one training, resumable
experiment   several kinds and seeds on one task
report       the page of an experiment
"""
