"""Whole models: converted under one budget, frozen, made dense again.

config         `Config`: what a conversion is asked to do
layer_types    which modules can be converted, one record a type
targets        which layers of a model a conversion takes
trace          vectors that reach the layers of a running model
calibration    fits on the inputs that weights meet
split_budget   one budget over many matrices
random_init    random matrices of every kind
pixelfly       a flat block butterfly plus low rank
kinds          kinds that a network can have
fit            approximations of given weights
builder        new weights for the layers that are converted
report         rows and tables
cost           `cost`
convert        `convert_`
freeze         `freeze_`, `to_dense_`
"""
