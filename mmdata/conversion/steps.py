"""The steps from records to rows that are the same wherever they are taken: in this process, on the
cores of this machine or on a cluster.

What they need travels with them: the format by its name and options, or as it was made; all else as
values. What depends on other rows, such as whether an id is taken, is not among them.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import mmdata
from mmdata._tools.limits import Limits, OnDamage
from mmdata.conversion.boxes import scale_boxes
from mmdata.conversion.media import MediaOptions, embed_media, find_media, probe_media
from mmdata.conversion.split import HeldOutSplits
from mmdata.errors import PluginError
from mmdata.formats import Format, make, registry
from mmdata.formats._batches import ReadOptions, read_batches
from mmdata.formats._plugins import blame_plugin
from mmdata.store.batch import BATCH_RECORDS, ConversationBatch

if TYPE_CHECKING:
    from mmdata.engine.local import Pool

__all__ = ["Check", "Steps", "convert_records", "find_all_media"]

Check: TypeAlias = Literal["none", "exists", "probe", "decode"]

_PROBED: Final = 256
"""How many records a batch has where media are looked into: so often progress is shown."""


@dataclass(frozen=True, slots=True)
class Steps:
    """How records become rows: the ``format`` and its ``options``, whether it is one for records
    that need not say their split, and how records are read, media found and checked, and rows held
    out.
    """

    format: str | Format
    options: Mapping[str, Any]
    without_splits: bool
    reading: ReadOptions
    place: MediaOptions
    check: Check
    on_damage: OnDamage
    limits: Limits | None
    held_out: HeldOutSplits | None

    @property
    def is_probed(self) -> bool:
        """Whether media are looked into."""
        return self.check in ("probe", "decode")

    @property
    def spelling(self) -> str:
        """All that shapes the rows, as text: the same in every process."""
        place = self.place
        rule = None if self.held_out is None else self.held_out.as_notes()
        shape = (
            mmdata.__version__,
            self.format,
            sorted(self.options.items()),
            self.without_splits,
            (self.reading.split, self.reading.strict, sorted(self.reading.allowed_fields)),
            (place.root, place.home, place.look, place.allow_outside, place.embed, place.access),
            (self.check, self.on_damage, self.limits, rule),
        )
        return repr(shape)

    def make_reader(self) -> Format:
        """Return the format.

        Raises:
            PluginError: it is that of a package which is not installed here.
        """
        if not isinstance(self.format, str):
            return self.format
        if self.format not in registry:
            raise PluginError(
                f"a worker on {platform.node()} has no format {self.format!r}: install the package "
                "there that brings it, as on the machine that starts the work"
            )
        reader = make(self.format, self.options)
        return reader.without_splits() if self.without_splits else reader


def convert_records(
    steps: Steps,
    reader: Format,
    sources: Sequence[Path],
    *,
    workers: int | None = None,
    journal: Path | None = None,
    pool: Pool | None = None,
    fetchers: Pool | None = None,
    seen: Callable[[int], object] = lambda records: None,
) -> Generator[ConversationBatch, None, None]:
    """Yield the records of the sources as batches of rows with their media found and checked;
    ids and what names say of splits are not settled.

    ``workers`` are those that look into media, or the ``pool`` is; ``journal`` is where they keep
    what they find. ``fetchers`` read media that are embedded, where others than this process do.
    ``seen`` is called with how many records are done with, more often than batches come where media
    are looked into.
    """
    place = steps.place
    with ExitStack() as stack:
        records = _PROBED if steps.is_probed else BATCH_RECORDS
        batches = read_batches(reader, sources, steps.reading, records=records)
        batches = find_all_media(reader, place, batches)
        if steps.check == "probe" or steps.check == "decode":
            from mmdata.conversion.prober import Prober

            prober = Prober(
                steps.check,
                journal=journal,
                access=place.access,
                workers=workers,
                on_damage=steps.on_damage,
                limits=steps.limits,
                pool=pool,
            )
            batches = probe_media(batches, place, stack.enter_context(prober), seen)
        batches = (scale_boxes(batch, place) for batch in batches)
        if steps.held_out is not None:
            # Before media are embedded: rows are held out by the names of theirs.
            batches = map(steps.held_out.apply, batches)
        yield from embed_media(batches, place, fetchers) if place.embed else batches


def find_all_media(
    reader: Format, place: MediaOptions, batches: Iterable[ConversationBatch]
) -> Iterator[ConversationBatch]:
    """Yield the batches with the paths of their media under the media root."""
    for batch in batches:
        with blame_plugin(reader):
            found = find_media(batch, reader, place)
        yield found
