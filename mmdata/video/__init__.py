"""Video: pixels and times, nothing else.

:func:`sample` takes frames, :func:`index` says what a file holds, :func:`plan` which frames a strategy would take.
"""

from __future__ import annotations

from mmdata.limits import Limits
from mmdata.video.frames import Frames
from mmdata.video.index import Index
from mmdata.video.plan import Plan, plan
from mmdata.video.reader import index
from mmdata.video.sample import sample
from mmdata.video.sampling import Clock, Strategy

__all__ = ["Clock", "Frames", "Index", "Limits", "Plan", "Strategy", "index", "plan", "sample"]
