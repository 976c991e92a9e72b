"""Learning experiments: networks whose layers are structured, and what came of them.

data         data sets
models       networks
tasks        batches, loss and score of a data set with a network
settings     defaults of a training
train        one training, resumable
experiment   several kinds and seeds on one task
report       the page of an experiment
"""
