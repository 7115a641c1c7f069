"""Images: decode, bring to the size that a model sees, cut into tiles, normalise."""

from __future__ import annotations

from mmdata._tools.limits import Limits
from mmdata.image import anyres, patches, resizers, tilings
from mmdata.image.decode import decode, load, size_of
from mmdata.image.transforms import normalize

__all__ = [
    "Limits",
    "anyres",
    "decode",
    "load",
    "normalize",
    "patches",
    "resizers",
    "size_of",
    "tilings",
]
