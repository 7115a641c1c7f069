"""Several data sets as one: how much of each, in which order."""

from __future__ import annotations

from mmdata.mixture.cache import Cache, CacheSize
from mmdata.mixture.config import Dataset, MixConfig, read_config
from mmdata.mixture.mixture import Mixture, PlanRow, write_mixture
from mmdata.mixture.near_duplicates import NearDuplicates, NearGroups, find_near_duplicates
from mmdata.mixture.random_mapping import RandomMapping
from mmdata.mixture.select import COLUMNS, SelectReport, TokenColumn, merge, select
from mmdata.mixture.strategy import Strategy

__all__ = [
    "COLUMNS",
    "Cache",
    "CacheSize",
    "Dataset",
    "MixConfig",
    "Mixture",
    "NearDuplicates",
    "NearGroups",
    "PlanRow",
    "RandomMapping",
    "SelectReport",
    "Strategy",
    "TokenColumn",
    "find_near_duplicates",
    "merge",
    "read_config",
    "select",
    "write_mixture",
]
