"""From a source to a store: media found and looked into,
ids settled, every record accounted for.
"""

from __future__ import annotations

from mmdata.conversion._convert import Check, ConvertReport, DuplicateIds, convert

__all__ = ["Check", "ConvertReport", "DuplicateIds", "convert"]
