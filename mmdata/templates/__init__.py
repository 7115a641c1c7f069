"""What each model family reads, one file a family;
see :class:`mmdata.templates.Template` for what one is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmdata._tools.options import checked, typed
from mmdata._tools.registry import Registry
from mmdata.templates._encoded import IGNORE, Encoded, MediaSlot, PixelPlan, attention_mask
from mmdata.templates._features import FeatureIndex, index_all_rows
from mmdata.templates._template import Template
from mmdata.tokenizers import Tokenizer

__all__ = [
    "IGNORE",
    "Encoded",
    "FeatureIndex",
    "MediaSlot",
    "PixelPlan",
    "Template",
    "attention_mask",
    "get",
    "index_all_rows",
    "load_tokenizer",
    "make",
    "registry",
]

registry: Registry[type[Template]] = Registry(
    "mmdata.templates", "template", besides=frozenset({"toolkit"})
)


def get(name: str) -> Callable[..., Template]:
    """Return the template class of a model family,
    to be called with ``tokenizer`` and the family's options.

    Raises:
        UnknownNameError: no such family; the message lists those there are.
    """
    return registry.get(name)


def make(name: str, tokenizer: Tokenizer, options: Mapping[str, Any] | None = None) -> Template:
    """Return the template of a model family with ``options``;
    text and lists are read as the types that options have.

    Raises:
        UnknownNameError: no such family; the message lists those there are.
        UsageError: an option is unknown, or its value is not one that it takes.
        PluginError: the family is another package's, and its template is at fault.
    """
    kind = get(name)
    values = typed(kind, name, options or {}, besides={"tokenizer"})
    with registry.blame_plugin(kind):
        return kind(tokenizer=tokenizer, **values)


@checked
def load_tokenizer(
    name: str, path: str | Path, *, verify: bool = True, **options: Any
) -> Tokenizer:
    """Return the tokenizer of a model family from its vocabulary file, see
    :meth:`Template.load_tokenizer`.

    Raises:
        UnknownNameError: no such family; the message lists those there are.
        TokenError: no such file, or not the published one.
        UsageError: an option that this kind of tokenizer does not have.
        PluginError: the family is another package's, and its template is at fault.
    """
    kind = registry.get(name)
    with registry.blame_plugin(kind):
        return kind.load_tokenizer(path, verify=verify, **options)
