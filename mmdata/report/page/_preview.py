"""The page: a sample of a store's rows, the account of the rest, in one file of HTML."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, Final

import mmdata.store
from mmdata._tools.limits import Limits
from mmdata._tools.options import PositiveInt, checked
from mmdata._tools.paths import local_path
from mmdata._tools.progress import Progress, show_progress
from mmdata._tools.terminal import one_line
from mmdata.errors import UsageError
from mmdata.rejects import Reason
from mmdata.report.lengths import join_lengths
from mmdata.report.page._cards import Card, make_card
from mmdata.report.page._isolated import IsolatedDecoder
from mmdata.report.plots import Distribution, distributions, draw_svg
from mmdata.report.statistics import stats
from mmdata.store import Store
from mmdata.templates import Template

__all__ = ["PreviewReport", "preview"]

_PAGE_BYTES: Final = 18_000_000
_FEWEST: Final = 20
"""Rows among which a page's bytes are shared at least, so that few do not get megabytes each."""
_EXAMPLES: Final = 10
"""Rejects shown of each reason."""
_DETAIL: Final = 400
"""Characters shown of what was wrong with a record."""


@dataclass(frozen=True, slots=True)
class PreviewReport:
    """Where the page is, how many ``rows`` of the store it shows, and how many of them have
    ``faults``: a medium that cannot be shown, or words that the template cannot encode.
    """

    page: Path
    rows: int
    faults: int


@dataclass(frozen=True, slots=True)
class _Reject:
    """A record that was not kept, on the page."""

    reason: str
    explanation: str
    place: str
    id: str
    detail: str


@dataclass(frozen=True, slots=True)
class _Count:
    """A line of the account."""

    name: str
    count: str
    note: str = ""


@checked
def preview(
    store: str | Path | Store,
    page: str | Path,
    *,
    template: Template | None = None,
    rows: PositiveInt = 200,
    seed: int = 0,
    overwrite: bool = False,
    limits: Limits | None = None,
    progress: Progress | None = False,
) -> PreviewReport:
    """Write a page that shows ``rows`` conversations of a store, drawn by ``seed``, to ``page``.

    Of each it shows the turns, the media (of a video the frames that ``template`` takes, or eight
    evenly spread, with their times), boxes on pictures, rejected endings beside the better ones,
    and with ``template`` its tokens, those that are trained on apart from the others. The account
    of the store comes first: rejects by reason with examples, fields in ``extra``, oddities; then,
    where matplotlib is installed, distributions of the whole store, and of the tokens of the rows
    that are shown. The page is one file that fetches nothing, below 20 MB for any number of rows;
    what has no room is left out and said to be. Media are decoded in a process of its own, each
    within ``limits``: what is beyond them, or ends that process, has its fault in the place of its
    picture. ``progress`` shows how far it is, or is called with the number of conversations so far,
    and 0.

    Raises:
        UsageError: the page is there and ``overwrite`` is not said, or its folder is not there.
        StoreError: the store cannot be opened.
    """
    target = local_path(page, "page")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} is there; --overwrite replaces it")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent} for the page")
    opened = store if isinstance(store, Store) else mmdata.store.open(Path(store))

    drawn = sorted(random.Random(seed).sample(range(len(opened)), min(rows, len(opened))))
    room = _PAGE_BYTES // max(len(drawn), _FEWEST)
    cards = []
    with (
        IsolatedDecoder(template, limits or Limits()) as decoder,
        show_progress(progress, "drawing", len(drawn)) as update,
    ):
        for done, row in enumerate(drawn):
            update(done, 0)
            cards.append(make_card(opened, row, template, decoder, room))

    lengths = None
    if template is not None:
        lengths = join_lengths([card.lengths for card in cards if card.lengths is not None])
    plots, missing = _draw_plots(distributions(stats(opened), lengths))
    _write_whole(target, _render(opened, cards, template, plots, missing))
    return PreviewReport(target, len(cards), sum(map(_has_fault, cards)))


def _has_fault(card: Card) -> bool:
    return bool(card.fault) or any(medium.fault for medium in card.media)


@dataclass(frozen=True, slots=True)
class _Plot:
    """A distribution on the page."""

    title: str
    svg: str


def _draw_plots(drawn: Iterable[Distribution]) -> tuple[list[_Plot], str]:
    """Return the distributions as elements of SVG, or none and why."""
    try:
        return [_Plot(each.title, draw_svg(each)) for each in drawn], ""
    except UsageError as error:  # matplotlib is an extra: a page can do without
        return [], str(error)


def _render(
    store: Store, cards: list[Card], template: Template | None, plots: list[_Plot], missing: str
) -> str:
    from jinja2 import Environment, StrictUndefined

    # With autoescape, text from data stays text, whatever it says; the page's policy lets nothing
    # be fetched and no other script run than ours.
    house = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    script = _asset("page.js")
    return house.from_string(_asset("page.html")).render(
        store=store.path.name,
        manifest=store.manifest,
        counts=list(_counts(store)),
        rejects=list(_rejects(store)),
        cards=cards,
        sources=sorted({card.source for card in cards}),
        splits=sorted({card.split for card in cards}),
        template=type(template).__name__ if template is not None else "",
        plots=plots,
        no_plots=missing,
        style=_asset("page.css"),
        script=script,
        script_hash=b64encode(sha256(script.encode()).digest()).decode(),
    )


def _asset(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _counts(store: Store) -> Iterator[_Count]:
    """Yield the account of a store: what went in, what came of it, what is odd."""
    manifest = store.manifest
    notes: Mapping[str, Any] = manifest.notes
    yield _Count("records in", f"{manifest.records_in:,}")
    yield _Count("rows", f"{manifest.rows:,}")
    for reason, count in manifest.rejects.items():
        yield _Count(f"reject: {reason}", f"{count:,}", Reason.of(reason).explanation)
    for name, count in manifest.sources.items():
        yield _Count(f"source: {one_line(name)}", f"{count:,}")
    for name, count in manifest.splits.items():
        yield _Count(f"split: {name}", f"{count:,}")
    for name, count in notes.get("extra", {}).items():
        yield _Count(f"in extra: {one_line(name)}", f"{count:,}")
    for name, count in notes.get("oddities", {}).items():
        yield _Count(f"odd: {name.replace('_', ' ')}", f"{count:,}")


def _rejects(store: Store) -> Iterator[_Reject]:
    """Yield the first rejects of each reason."""
    left = dict.fromkeys(store.manifest.rejects, _EXAMPLES)
    wanted = (line for line in store.rejects() if left.get(line["reason"], 0) > 0)
    for line in islice(wanted, _EXAMPLES * len(left)):
        left[line["reason"]] -= 1
        yield _Reject(
            line["reason"],
            Reason.of(line["reason"]).explanation,
            one_line(f"{line['file']}, record {line['record']}"),
            one_line(line["id"] or ""),
            one_line(line["detail"])[:_DETAIL],
        )


def _write_whole(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
