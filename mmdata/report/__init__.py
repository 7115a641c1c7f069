"""What a store holds, for people: text, statistics, pages."""

from __future__ import annotations

from mmdata.report.lengths import count_tokens_by
from mmdata.report.page._preview import PreviewReport, preview
from mmdata.report.statistics import Spread, Statistics, stats

__all__ = ["PreviewReport", "Spread", "Statistics", "count_tokens_by", "preview", "stats"]
