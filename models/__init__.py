"""Compact vision-language models in MindSpore: one file a family, on shared modules. Nothing here knows `mmdata`.

Shapes are written `(batch, length, hidden)`; every model reads the same few inputs, see `models.modules.merge_media`.
"""
