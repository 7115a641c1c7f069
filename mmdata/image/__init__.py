"""Images: decode, and prepare as each family does."""

from __future__ import annotations

from mmdata._tools.limits import Limits
from mmdata.image import anyres, families
from mmdata.image.decode import decode, load, size_of
from mmdata.image.families import cogvlm2_video, llava_next, llava_pad, qwen_vl, visualglm
from mmdata.image.transforms import normalize

__all__ = [
    "Limits",
    "anyres",
    "cogvlm2_video",
    "decode",
    "families",
    "llava_next",
    "llava_pad",
    "load",
    "normalize",
    "qwen_vl",
    "size_of",
    "visualglm",
]
