"""What a store holds, for people: text, statistics, pages."""

from __future__ import annotations

from mmdata.report.page._preview import PreviewReport, preview

__all__ = ["PreviewReport", "preview"]
