"""Converting the partitions of a source, each into a file of rows and rejects, on an engine.

A partition is some source files, or parts of them, that follow one another. What it is made into
depends on nothing but the partition and the steps, and is called by a hash of both: so it does not
matter where it is made, when, or how often. Ids, splits that names say, and the boundaries of
batches and shards are settled afterwards, in order, by whoever reads the files one after the other.
"""

from __future__ import annotations

import gc
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, groupby
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import msgspec

from mmdata._tools.collector import pause_collector
from mmdata._tools.limits import Limits
from mmdata.conversion.steps import Steps, convert_records
from mmdata.engine.engine import Engine, LostWorkerError, raise_errors, run_jobs
from mmdata.errors import DataError, StoreError
from mmdata.formats import Format, registry
from mmdata.formats._batches import read_runs
from mmdata.formats._nested import WRAPPERS
from mmdata.formats._sources import RecordSource
from mmdata.rejects import Reject
from mmdata.sources.files import ListedSources, SourceFile
from mmdata.sources.meter import Tell, tell_nobody
from mmdata.sources.parts import WHOLE, TextPart
from mmdata.sources.record import Record
from mmdata.sources.split import Measure, locate_parts, measure_part, propose_parts
from mmdata.store.batch import ConversationBatch, Origins
from mmdata.store.builder import BatchBuilder
from mmdata.store.contents import hash_contents
from mmdata.store.encode import arrow_schema
from mmdata.store.manifest import hash_text
from mmdata.store.publish import sync

__all__ = [
    "PARTITIONS",
    "Partition",
    "can_split",
    "convert_partitions",
    "goes_by_name",
    "plan_partitions",
    "read_result",
]

PARTITIONS: Final = "partitions"
"""The folder of an unfinished store in which the files of its partitions are."""
_END: Final = b"\xff\xff\xff\xff\0\0\0\0"
"""How an Arrow stream ends."""

Contents: TypeAlias = list[int]


@dataclass(frozen=True, slots=True)
class Partition:
    """Files, or parts of them, and what the result is called; ``only`` some of their records, by
    their places among them, where not all are wanted. ``size`` is about how many bytes they have.
    """

    files: tuple[SourceFile, ...]
    name: str
    only: range | None = None
    size: int = 0

    @property
    def sources(self) -> ListedSources:
        """The files as a format takes them."""
        return ListedSources(self.files)

    def limit(self, start: int, stop: int) -> Partition:
        """Return the same with some of its records only."""
        return Partition(self.files, f"{self.name}-{start}-{stop}", range(start, stop))

    def __str__(self) -> str:
        """Return where it is, for people."""
        first, last = self.files[0], self.files[-1]
        if first.path != last.path:
            return f"{first.path} to {last.path}"
        part = first.part
        if isinstance(part, TextPart):
            return f"{first.path} from byte {part.start} on" if part.start else str(first.path)
        return f"{first.path} from record {part.number} on"


# --- planning
# -------------------------------------------------------------------------------------------------


def can_split(reader: Format) -> bool:
    """Return whether the files that a format reads can be read apart from one another, by other
    processes.
    """
    kind = type(reader)
    is_importable = kind.__module__ != "__main__" and "<locals>" not in kind.__qualname__
    if not (is_importable and isinstance(reader, RecordSource)):
        return False
    return kind.records is RecordSource.records and kind.files is RecordSource.files


def goes_by_name(format: str | Format, reader: Format) -> bool:  # noqa: A002
    """Return whether a worker finds the format that was asked for by its name: one of ours, or of a
    package that is installed. Another travels as it was made, by the name of its module.
    """
    kind = type(reader)
    is_ours = kind.__module__.partition(".")[0] == "mmdata"
    return isinstance(format, str) and (is_ours or registry.plugin_of(kind) is not None)


def plan_partitions(
    engine: Engine,
    steps: Steps,
    files: Sequence[SourceFile],
    hashes: Mapping[Path, str],
    *,
    count: int,
    reads_parts: bool,
) -> list[Partition]:
    """Return about ``count`` partitions of some files, of about as many bytes each.

    Files are split where the format ``reads_parts``, and small ones come together. ``hashes`` are
    those of what is in the files.
    """
    sizes = [file.path.stat().st_size for file in files]
    each = max(1, -(-sum(sizes) // count))
    proposed = [
        propose_parts(file, -(-size // each)) if reads_parts else [WHOLE]
        for file, size in zip(files, sizes, strict=True)
    ]

    # Of a file that is not split nothing need be measured.
    asked = [
        (file, part, WRAPPERS)
        for file, parts in zip(files, proposed, strict=True)
        for part in (parts if len(parts) > 1 else ())
    ]
    measured = iter(raise_errors(run_jobs(engine, _measure, asked)))
    pieces: list[tuple[SourceFile, int]] = []
    for file, parts, size in zip(files, proposed, sizes, strict=True):
        if len(parts) > 1:
            parts = locate_parts(parts, [next(measured) for _ in parts])
        pieces += [(file._replace(part=part), size // len(parts)) for part in parts]

    # Which rows are held out with which may depend on any of the files.
    others = [] if steps.held_out is None else sorted(hashes.values())
    shape = hash_text(steps.spelling, *others)
    return [
        Partition(
            some,
            hash_text(shape, *(f"{hashes[file.path]} {file}" for file in some)),
            size=total,
        )
        for some, total in _group(pieces, each)
    ]


def _measure(file: SourceFile, part: Any, covers: Sequence[str]) -> Measure:
    return measure_part(file, part, covers=covers)


def _group(
    pieces: Iterable[tuple[SourceFile, int]], size: int
) -> Iterator[tuple[tuple[SourceFile, ...], int]]:
    """Yield the pieces in groups of at most so many bytes, or of one piece that has more; each
    group with how many it has.
    """
    some: list[SourceFile] = []
    total = 0
    for piece, length in pieces:
        if some and total + length > size:
            yield tuple(some), total
            some, total = [], 0
        some.append(piece)
        total += length
    if some:
        yield tuple(some), total


# --- on the engine
# --------------------------------------------------------------------------------------------------


def convert_partitions(
    engine: Engine,
    steps: Steps,
    partitions: Sequence[Partition],
    folder: Path,
    tell: Tell = tell_nobody,
) -> Iterator[Path]:
    """Yield, in order, the files in ``folder`` that the partitions have been made into; those that
    are there from an earlier attempt are not made again. Before each, ``tell`` is called with which
    share of the work it completes, as far as there was any to do.

    A partition that loses two workers is divided until the record is found that does it, which
    becomes a reject.
    """
    folder.mkdir(exist_ok=True)
    places = [folder / f"{partition.name}.arrow" for partition in partitions]
    missing = [
        partition
        for partition, place in zip(partitions, places, strict=True)
        if not _is_finished(place)
    ]
    shared = folder if engine.shares_files else None
    tasks = ((steps, partition, shared) for partition in missing)
    results = zip(missing, run_jobs(engine, _convert_partition, tasks), strict=True)

    lost = set(missing)
    whole = sum(partition.size for partition in missing) or 1
    done = 0
    for partition, place in zip(partitions, places, strict=True):
        if partition not in lost:
            yield place
            continue
        _, outcome = next(results)
        done += partition.size
        tell(done / whole)
        if isinstance(outcome, LostWorkerError):
            yield from _convert_divided(steps, partition, folder)
        elif isinstance(outcome, Exception):
            raise outcome
        else:
            yield _keep(outcome, place)


def _keep(result: bytes | None, place: Path) -> Path:
    """Return where the result of a partition is, written now if it came as bytes."""
    if result is not None:
        partial = place.with_suffix(".partial")
        partial.write_bytes(result)
        sync(partial)
        partial.replace(place)
    return place


def _is_finished(place: Path) -> bool:
    if not place.exists():
        return False
    with place.open("rb") as opened:
        opened.seek(max(0, place.stat().st_size - len(_END)))
        return opened.read() == _END


def _convert_partition(steps: Steps, partition: Partition, folder: Path | None) -> bytes | None:
    """Convert a partition into a file in ``folder``, or return the bytes of one."""
    if folder is None:
        memory = io.BytesIO()
        _write(memory, _convert(steps, partition))
        return memory.getvalue()

    place = folder / f"{partition.name}.arrow"
    partial = place.with_suffix(".partial")
    with partial.open("wb") as opened:
        _write(opened, _convert(steps, partition))
    sync(partial)
    partial.replace(place)
    return None


def _convert(steps: Steps, partition: Partition) -> Iterator[ConversationBatch]:
    limited = replace(steps, reading=replace(steps.reading, only=partition.only))
    limits = steps.limits or Limits()
    reader, sources = steps.make_reader(), partition.sources
    with ExitStack() as stack:
        pool = None
        if steps.is_probed:
            from mmdata.engine.local import lend_pool

            lent = lend_pool(deadline=limits.deadline, memory=limits.memory)
            pool = stack.enter_context(lent)
        stack.enter_context(pause_collector())
        for batch in convert_records(limited, reader, sources, workers=1, pool=pool):
            yield batch
            gc.collect(0)


# --- a partition that kills its workers
# --------------------------------------------------------------------------------------------------


def _convert_divided(steps: Steps, partition: Partition, folder: Path) -> Iterator[Path]:
    """Yield the files that the records of a partition have been made into which kills the processes
    that work on it; each record that does is a reject.

    This machine does it, whatever the engine.
    """
    from mmdata.engine.local import LocalEngine

    with LocalEngine(1) as engine:
        [count] = run_jobs(engine, _count_records, [(steps, partition)])
        if isinstance(count, LostWorkerError):
            raise DataError(
                f"{partition}: reading it kills the process: {count} Nothing was written; leave "
                "out that part of the source."
            ) from count
        if isinstance(count, Exception):
            raise count

        waiting = [range(count)]
        while waiting:
            records = waiting.pop()
            some = partition.limit(records.start, records.stop)
            place = folder / f"{some.name}.arrow"
            # One record alone gets another chance: a process may be killed for any reason.
            attempts = 2 if len(records) == 1 else 1
            task = (steps, some, folder)
            [outcome] = run_jobs(engine, _convert_partition, [task], attempts=attempts)
            if not isinstance(outcome, Exception):
                yield place
            elif not isinstance(outcome, LostWorkerError):
                raise outcome
            elif len(records) > 1:
                middle = (records.start + records.stop) // 2
                waiting += [range(middle, records.stop), range(records.start, middle)]
            else:
                [reject] = raise_errors(run_jobs(engine, _reject_record, [(steps, some, outcome)]))
                with place.open("wb") as opened:
                    _write(opened, [_batch_of(reject)])
                yield place


def _count_records(steps: Steps, partition: Partition) -> int:
    return sum(map(len, read_runs(steps.make_reader(), partition.sources)))


def _reject_record(steps: Steps, partition: Partition, error: Exception) -> Reject:
    """Return the reject that the one record of a partition becomes by an error."""
    runs = read_runs(steps.make_reader(), partition.sources, partition.only)
    item = next(chain.from_iterable(runs))
    return item.rejected(error) if isinstance(item, Record) else item


def _batch_of(reject: Reject) -> ConversationBatch:
    builder = BatchBuilder()
    builder.reject(reject)
    return builder.build()


# --- the files
# --------------------------------------------------------------------------------------------------


class _Beside(msgspec.Struct):
    """What a batch has besides its rows; of origins the files each with how often it follows."""

    files: list[tuple[str, int]]
    numbers: list[int]
    ids: list[str | None]
    positions: list[int]
    rejects: list[tuple[int, Reject]]
    contents: list[int]


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Beside)


def _write(sink: IO[bytes], batches: Iterable[ConversationBatch]) -> None:
    """Write batches as an Arrow stream, beside each what else it says."""
    import pyarrow as pa

    # A stream and not a file: batches may have other names of sources than those before them.
    with pa.ipc.new_stream(sink, arrow_schema()) as writer:
        for batch in batches:
            origins = batch.origins
            beside = _Beside(
                list(_count_runs(origins.files)),
                list(origins.numbers),
                list(origins.ids),
                list(batch.positions),
                list(batch.rejects),
                hash_contents(batch),
            )
            metadata = pa.KeyValueMetadata({"beside": _encoder.encode(beside)})
            writer.write_batch(batch.columns, custom_metadata=metadata)


def read_result(place: Path) -> Iterator[tuple[ConversationBatch, Contents]]:
    """Yield the batches of a file that a partition was made into, each with the hashes of what its
    rows say.

    Raises:
        StoreError: the file is not whole.
    """
    import pyarrow as pa

    if not _is_finished(place):
        raise StoreError(f"{place} was cut; run again without --resume", path=str(place))
    with pa.memory_map(str(place)) as opened, pa.ipc.open_stream(opened) as reader:
        while True:
            try:
                columns, metadata = reader.read_next_batch_with_custom_metadata()
            except StopIteration:
                return
            beside = _decoder.decode(metadata[b"beside"])
            files = list(chain.from_iterable([name] * count for name, count in beside.files))
            origins = Origins(files, beside.numbers, beside.ids)
            batch = ConversationBatch(columns, origins, beside.positions, beside.rejects)
            yield batch, beside.contents


def _count_runs(words: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield words with how often each follows itself."""
    for word, same in groupby(words):
        yield word, sum(1 for _ in same)
