"""Pretrained models of Hugging Face's transformers: their structure in ``config.json``.

config      `StructureConfig`: layers as text
quantizer   `StructureQuantizer`: layers put into a model before its weights are read; `enable`
stored      the layers of a folder without their model
follow      models enabled when their layers are replaced
"""
