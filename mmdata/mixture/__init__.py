"""Several data sets as one: how much of each, in which order."""

from __future__ import annotations

from mmdata.mixture.cache import Cache, CacheSize
from mmdata.mixture.config import Dataset, MixConfig, read_config
from mmdata.mixture.mixture import Mixture, PlanRow, write_mixture
from mmdata.mixture.random_mapping import RandomMapping
from mmdata.mixture.strategy import Strategy

__all__ = [
    "Cache",
    "CacheSize",
    "Dataset",
    "MixConfig",
    "Mixture",
    "PlanRow",
    "RandomMapping",
    "Strategy",
    "read_config",
    "write_mixture",
]
