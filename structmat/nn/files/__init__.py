"""Files of whole networks.

tensor_file   files of tensors, with digests
describe      layers as text and index arrays, and built from them again
place         layers and tensors of a file, put where a network has them
checkpoint    `save_model`, `load_model`
stored        the layers of a file without their network
"""
