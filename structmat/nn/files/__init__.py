"""Files of whole networks.

describe     layers as text and index arrays, and built from them again
checkpoint   `save_model`, `load_model`
"""
