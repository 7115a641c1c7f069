"""Source formats, one file each; :mod:`mmdata.formats.toolkit` is what they are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmdata._tools.options import defaults, typed
from mmdata._tools.paths import real_path
from mmdata._tools.registry import Registry
from mmdata.errors import MMDataError, PluginError
from mmdata.formats import _format
from mmdata.formats._format import Format, Origin, Sample
from mmdata.sources.files import Sources
from mmdata.sources.record import Record

if TYPE_CHECKING:
    from mmdata.formats._detect import Detection

__all__ = [
    "Format",
    "Origin",
    "Record",
    "Sample",
    "describe",
    "detect",
    "examples",
    "look_into",
    "make",
    "registry",
    "summaries",
]

registry: Registry[type[Format]] = Registry(
    "mmdata.formats", "format", besides=frozenset({"export", "toolkit"})
)


def make(name: str, options: Mapping[str, Any] | None = None) -> Format:
    """Return the format ``name`` with ``options``; text is read as the type an option has.

    Raises:
        UnknownNameError: there is no such format.
        UsageError: an option is unknown, or its value is not of its type.
        PluginError: another package brings the format, and it cannot be imported or made.
    """
    kind = _declared(name)
    settings = typed(kind, name, options or {})
    try:
        return kind(**settings)
    except MMDataError:
        raise
    except Exception as error:  # of another package's class; ours check their options
        if (plugin := registry.plugin_of(kind)) is None:
            raise
        raise PluginError(f"{plugin} cannot be made: {type(error).__name__}: {error}") from error


def describe(name: str) -> str:
    """Return what a format is, the shapes of its sources, and its options with their defaults, as
    text.
    """
    kind = _declared(name)
    lines = [kind.summary, "", kind.shape, ""]

    if others := examples(name):
        lines.append("other shapes:")
        for words, source in others.items():
            lines += [f"  {words}:", f"    {source}"]
        lines.append("")

    lines.append("options:")
    lines += [f"  {option}={default}" for option, default in defaults(kind).items()]
    return "\n".join(lines)


def examples(name: str) -> dict[str, str]:
    """Return the shapes that a format reads besides the usual one: a few words for each, and a
    source of it; none where the format shows none.

    >>> examples("videochatgpt")["training data (VideoInstruct100K)"]
    '[{"video_id": "v_abc", "q": "What happens?", "a": "Rain."}]'

    Raises:
        UnknownNameError: there is no such format.
        PluginError: another package brings the format, and it cannot be imported.
    """
    kind = _declared(name)
    return dict(kind.examples)


def summaries() -> dict[str, str]:
    """Return one line for every format by its name; of one that cannot be imported the line says
    why.
    """
    return {name: _summary(name) for name in registry.names()}


def _summary(name: str) -> str:
    try:
        return _declared(name).summary
    except PluginError as error:
        return f"not available: {error}"


def _declared(name: str) -> type[Format]:
    """Return the class of a format that declares all that one must.

    Raises:
        PluginError: another package's does not.
    """
    kind = registry.get(name)
    _format.require_declared(kind, registry.plugin_of(kind) or kind.__qualname__)
    return kind


def detect(sources: Sequence[str | Path]) -> str:
    """Return the name of the one format that recognises the sources, files or folders, by records
    from the head, the middle and the end of their files.

    A format of another package that cannot be imported, or fails while it looks, is logged and
    passed over.

    Raises:
        UsageError: there is none, or there are several, or the sources are mixed; the message says
            what was seen.
    """
    return look_into(sources).format


def look_into(sources: Sequence[str | Path]) -> Detection:
    """Return what :func:`detect` does, and what was seen of the sources.

    Raises:
        UsageError: as :func:`detect`.
    """
    # What tells formats apart is most of this room, and whoever needs a part of it needs it not.
    from mmdata.formats import _detect

    # Those of a conversion are real paths already, and know the files that they list.
    if not isinstance(sources, Sources):
        sources = Sources(real_path(Path(source)) for source in sources)
    return _detect.detect(registry, sources)
