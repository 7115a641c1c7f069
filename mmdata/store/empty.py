"""Why a store has no row: in words, the most frequent reason first,
with an example and what to do about it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from mmdata.rejects import Reason, Reject
from mmdata.store.layout import REJECTS
from mmdata.store.manifest import read_manifest

__all__ = ["explain_empty", "why_empty"]

_SHAPE: Final = (
    "`mmdata formats` lists the formats, `mmdata formats NAME` shows the records that one wants"
)
_FETCH: Final = "fetch the files again, or remove their records"
_MENDS: Final[Mapping[Reason, str]] = {
    Reason.MISSING_MEDIA: "put the files there, or name the folder that their paths are relative "
    "to: --media-root, or media_root: in a mixing YAML",
    Reason.OUTSIDE_MEDIA_ROOT: "name a folder that holds all the media: --media-root, "
    "or media_root: in a mixing YAML",
    Reason.EMPTY_MEDIA: _FETCH,
    Reason.UNREADABLE_MEDIA: _FETCH,
    Reason.DAMAGED_MEDIA: _FETCH,
    Reason.CHANGED_MEDIA: "restore the files, or convert the source again",
    Reason.REMOTE_MEDIA: "allow them to be read: --allow-remote; or download the media and name "
    "the files, or keep the URLs by name: --check none",
    Reason.MEDIA_LIMIT: "make the files smaller, or remove their records",
    Reason.BAD_JSON: _SHAPE,
    Reason.MALFORMED: _SHAPE,
    Reason.NO_CONVERSATION: _SHAPE,
    Reason.UNKNOWN_ROLE: _SHAPE,
    Reason.ROLE_ORDER: _SHAPE,
    Reason.MEDIA_MISMATCH: _SHAPE,
}
"""What to do about a reason; for the others the detail says it."""


def why_empty(store: Path) -> str | None:
    """Return why the store at ``store`` has no row, or None if it has some.

    Raises:
        StoreError: it is damaged.
    """
    manifest = read_manifest(store)
    if manifest.rows:
        return None
    rejects = manifest.folder_in(store) / REJECTS
    with rejects.open(encoding="utf-8") as lines:
        why = explain_empty(manifest.rejects, (Reject.of(json.loads(line)) for line in lines))
    return why if not manifest.rejects else f"{why} All of them: {rejects}."


def explain_empty(counts: Mapping[str, int], rejects: Iterable[Reject]) -> str:
    """Return why no row was kept, from the numbers
    of rejects by reason and the rejects in order.
    """
    if not counts:
        return "no row was kept: there was no record to keep."

    code = max(counts, key=lambda each: counts[each])
    reason = Reason.of(code)
    total = sum(counts.values())
    first = next((reject for reject in rejects if reject.reason is reason), None)
    whose = f", id {first.id!r}" if first and first.id is not None else ""
    example = (
        f" The first: {first.file}, record {first.record}{whose}: {first.detail}." if first else ""
    )
    mend = f" What to do: {_MENDS[reason]}." if reason in _MENDS else ""
    share = f"{counts[code]:,} of {total:,} records were rejected as {code}"
    return f"no row was kept: {share} ({reason.explanation}).{example}{mend}"
