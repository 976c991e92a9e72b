"""Models and layers to compare structmat with, and a real model to compress.

blast, blast_fit   BLAST matrices as layers, and their fit to a dense weight
alds               ranks of a whole network, as ALDS chooses them
minilm             all-MiniLM-L6-v2, a real pre-trained model of sentences
distillation       learning from an original model
_replacing         checks that conversions share
"""
