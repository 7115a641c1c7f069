"""The pipeline: from a mixture to batches, exact, resumable, on any number of ranks."""

from __future__ import annotations

from mmdata.pipeline.batch import Batch
from mmdata.pipeline.mindspore import mindspore_dataset
from mmdata.pipeline.stream import LAYOUTS, Stream
from mmdata.pipeline.torch import torch_dataset

__all__ = ["LAYOUTS", "Batch", "Stream", "mindspore_dataset", "torch_dataset"]
