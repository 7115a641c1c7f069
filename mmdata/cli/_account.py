"""The account of a run and of a store, as lines for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from mmdata.cli._say import columns, say

if TYPE_CHECKING:
    from mmdata.conversion import ConvertReport
    from mmdata.frame_cache import CacheReport

__all__ = ["note_lines", "oddity_lines", "print_report"]

_MEDIA_NOTES: Final = {
    "without_media": "rows without any, among others that have some",
    "unplaced": "named, but nowhere in the words",
    "doubled": "again in a row that has them already",
}


def print_report(report: ConvertReport | CacheReport, as_json: bool) -> None:
    """Print the account of a run; where no row was kept, why that is comes first, and the exit code
    is 1.
    """
    if report.why_empty is not None:
        say(f"mmdata: {report.why_empty}", err=True)
    say(json.dumps(asdict(report), default=str) if as_json else _account(report))
    if report.why_empty is not None:
        sys.exit(1)


def _account(report: ConvertReport | CacheReport) -> str:
    """Return the account of a run for people."""
    from mmdata.rejects import Reason
    from mmdata.store.layout import REJECTS
    from mmdata.store.manifest import read_manifest

    rejected = sum(report.rejects.values())
    lines = [
        ("records in", f"{report.records_in:,}"),
        ("rows", f"{report.rows:,}"),
        ("rejects", f"{rejected:,}"),
        *(
            (f"  {reason}", f"{count:,}  {Reason.of(reason).explanation}")
            for reason, count in report.rejects.items()
        ),
    ]
    lines += [("split", f"{name}: {n:,}") for name, n in getattr(report, "splits", {}).items()]
    lines += note_lines(getattr(report, "notes", {}))
    if renamed := getattr(report, "renamed_ids", 0):
        lines.append(("numbered ids", f"{renamed:,}"))
    if resumed := getattr(report, "resumed", 0):
        lines.append(("from before", f"{resumed:,}"))
    lines += [("seconds", f"{report.seconds:.1f}"), ("store", str(report.store))]
    if rejected:
        folder = read_manifest(report.store).folder_in(report.store)
        lines.append(("details", str(folder / REJECTS)))
    return columns(lines)


def note_lines(notes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield for people how splits were found, and what of the rows they may not expect."""
    if "detected" in notes:
        yield "format found", notes["detected"]
    if division := notes.get("split"):
        shares = ",".join(f"{name}={share:g}" for name, share in division["shares"].items())
        yield "held out", f"{shares} by {division['by']}, seed {division['seed']}"
    for split, found in notes.get("split_names", {}).items():
        files = f"{found['files']:,} files, the first" if found["files"] > 1 else "the name of"
        yield "split by name", f"{split}: {files} {found['first']}"
    for split, count in notes.get("split_fields", {}).items():
        yield "split by field", f"{split}: {count:,} rows whose field 'split' says so"
    if near := notes.get("near_duplicates"):
        yield "near duplicates", f"{near['dropped']:,} dropped"
        yield from (
            (f"near {kind}", f"{told['duplicates']:,} ({told['rule']})")
            for kind, told in near["groups"].items()
        )
    for name, count in notes.get("extra", {}).items():
        yield "in extra", f"{name}: {count:,}"
    yield from oddity_lines(notes.get("oddities", {}))
    for note, words in _MEDIA_NOTES.items():
        if count := notes.get(note):
            yield "media", f"{count:,} {words}"


def oddity_lines(counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield for people how many media are oddly made, by kind."""
    for kind, count in counts.items():
        yield "oddly made", f"{kind}: {count:,}"
