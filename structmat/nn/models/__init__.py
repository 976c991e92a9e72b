"""Whole models: converted under one budget, frozen, made dense again.

config         `Config`: the settings of a conversion
layer_types    layers that can be converted and layers that replace them, one record a type
carry          attachments of a layer, carried to the one in its place
modules        names of modules, and replacement in place
attention      attention of torch, split into layers and merged
changed        announcement that layers were replaced
targets        layers that a conversion takes, and layers that it leaves
trace          inputs of the layers of a running model
split_budget   one budget over many matrices
builder        new weights of the converted layers
times          expected times of structured layers
report         rows, sums and tables
cost           `cost`
shown          facts and pictures of layers
convert        `convert_`
merge_orders   orders of rows and columns, merged between neighbours
freeze         `freeze_`, `to_dense_`
"""
