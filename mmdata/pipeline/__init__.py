"""The pipeline: from a mixture to batches, exact, resumable, on any number of ranks."""

from __future__ import annotations

from mmdata.pipeline.batch import Batch
from mmdata.pipeline.stream import LAYOUTS, Stream

__all__ = ["LAYOUTS", "Batch", "Stream"]
