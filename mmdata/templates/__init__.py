"""What each model family reads, one file a family; see :class:`mmdata.templates.Template` for what one is."""

from __future__ import annotations

from collections.abc import Callable

from mmdata._tools.registry import Registry
from mmdata.templates._encoded import IGNORE, Encoded, MediaSlot, PixelPlan, Resize, attention_mask
from mmdata.templates._template import Template

__all__ = [
    "IGNORE",
    "Encoded",
    "MediaSlot",
    "PixelPlan",
    "Resize",
    "Template",
    "attention_mask",
    "get",
    "registry",
]

registry: Registry[type[Template]] = Registry("mmdata.templates", "template")


def get(name: str) -> Callable[..., Template]:
    """Return the template class of a model family, to be called with ``tokenizer`` and the family's options.

    Raises:
        UnknownNameError: no such family; the message lists those there are.
    """
    return registry.get(name)
