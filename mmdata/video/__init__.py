"""Video: pixels and times, nothing else.

:func:`sample` takes the frames of a clip and :func:`sample_many` those of many on threads;
:func:`index` says what a file holds and its :class:`Clock` when, :func:`plan` which of its frames
a strategy would take. A source is the path or the bytes of a file, a folder of pictures, or
:class:`Pictures`; :func:`source_of` is that of a video in a store.
"""

from __future__ import annotations

from mmdata._tools.limits import Limits
from mmdata.video.clock import Clock
from mmdata.video.folder import source_of
from mmdata.video.frames import Frames
from mmdata.video.index import Index
from mmdata.video.pictures import Pictures
from mmdata.video.plan import Plan, plan
from mmdata.video.prefetch import sample_many
from mmdata.video.reader import index
from mmdata.video.sample import sample
from mmdata.video.sampling import Strategy

__all__ = [
    "Clock",
    "Frames",
    "Index",
    "Limits",
    "Pictures",
    "Plan",
    "Strategy",
    "index",
    "plan",
    "sample",
    "sample_many",
    "source_of",
]
