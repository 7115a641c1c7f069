"""Which row of a model's media features each position
of a sample takes, as its template declares it.
"""

from __future__ import annotations

from mmdata.pipeline.encode import Sample
from mmdata.templates import FeatureIndex, Template, registry

__all__ = ["index_features"]


def index_features(sample: Sample, plan: int, template: Template) -> FeatureIndex:
    """Return the features that the positions of one medium take,
    ``plan`` in ``sample.encoded.pixels``.
    """
    encoded = sample.encoded
    positions = sum(slot.length for slot in encoded.slots if slot.plan == plan)

    with registry.blame_plugin(type(template)):
        return template.index_features(
            encoded.pixels[plan],
            positions=positions,
            views=len(sample.views[plan]),
            size=sample.sizes[plan],
        )
