"""From a store of videos to a store of their frames: decode once, train many times.

Every video gets its sampled frames as encoded pictures, with their true times, beside the facts of
the file. Decoding runs in worker processes; a video that cannot be decoded costs its record, which
becomes a reject.
"""

from __future__ import annotations

import io
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, Literal, TypeAlias

from msgspec import Meta, convert, to_builtins

import mmdata
from mmdata import store as stores
from mmdata._tools.limits import Limits, count_bytes
from mmdata._tools.options import PositiveInt, checked
from mmdata._tools.paths import is_url, local_path
from mmdata._tools.progress import Progress, show_progress
from mmdata._tools.requirements import processors
from mmdata.conversion.account import count_batch
from mmdata.engine.engine import Engine
from mmdata.engine.local import Pool, lend_pool
from mmdata.engine.open import EngineName, check_address, map_ranges
from mmdata.errors import DataError, MediaError, UsageError, as_media_error
from mmdata.rejects import Reason, Reject
from mmdata.schema import CompactTimes, Conversation, Media, replace
from mmdata.storage import MediaCache
from mmdata.storage._cache import media_cache as media_cache_of
from mmdata.store.builder import BatchBuilder
from mmdata.store.empty import why_empty
from mmdata.store.publish import close_after
from mmdata.store.writer import Origin, StoreWriter
from mmdata.video.pixels import Size, scaler
from mmdata.video.plan import Snap
from mmdata.video.sample import OnDamage
from mmdata.video.sampling import Pad, Strategy

if TYPE_CHECKING:
    import numpy as np
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    from mmdata.video import Frames

__all__ = ["CacheReport", "Codec", "cache_frames", "cached_frames"]

Codec: TypeAlias = Literal["jpeg", "webp"]

_JOURNAL: Final = "frames.journal"
_TOGETHER: Final = 16
"""How many rows are worked on by one job of an engine."""
_LEAST: Final = 4
"""As few to the end of a run, when workers would else wait for the last of them."""


@dataclass(frozen=True, slots=True)
class CacheReport:
    """What a run did: ``records_in == rows + sum(rejects.values())``;
    ``resumed`` rows came from an earlier attempt.
    """

    store: Path
    records_in: int
    rows: int
    rejects: Mapping[str, int]
    resumed: int
    seconds: float

    @property
    def why_empty(self) -> str | None:
        """Why no row was kept and what to do about it, where none was:
        the most frequent reason with an example.
        """
        return None if self.rows else why_empty(self.store)


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How the frames of every video are taken and kept."""

    strategy: str
    size: Size
    resize: str
    codec: Codec
    quality: int
    pad: Pad
    snap: Snap
    on_damage: OnDamage
    limits: Limits


@checked
def cache_frames(
    source: str | Path,
    target: str | Path,
    strategy: str,
    *,
    size: Size = None,
    resize: str = "fast",
    codec: Codec = "jpeg",
    quality: Annotated[int, Meta(ge=1, le=100)] = 90,
    pad: Pad = "none",
    snap: Snap = "exact",
    on_damage: OnDamage = "raise",
    workers: PositiveInt | None = None,
    engine: EngineName | Engine = "local",
    address: str | None = None,
    partitions: PositiveInt | None = None,
    resume: bool = False,
    overwrite: bool = False,
    media_root: str | Path | None = None,
    media_cache: str | Path | MediaCache | None = None,
    limits: Limits | None = None,
    progress: Progress = False,
) -> CacheReport:
    """Write the store at ``source`` anew at ``target``,
    every video with its frames, and return the account.

    ``strategy``, ``size``, ``resize``, ``pad``, ``snap`` and ``on_damage`` are those of
    :func:`mmdata.video.sample`. ``codec`` is ``"jpeg"``, of ``quality`` 1 to 100, or ``"webp"``,
    lossless. ``workers`` are processes, by default as many as there are cores: of this machine, or
    with the ``engine`` ``ray`` of the cluster at ``address``, or of an engine that is open, each of
    which works on one of the ``partitions`` at a time, by default of 16 rows and fewer to the end.
    ``resume`` goes on where an attempt with the same arguments was stopped. What a video may cost
    beyond its ``limits`` costs its record; the deadline grows with the videos of a record
    (:meth:`mmdata._tools.limits.Limits.deadline_of`). A video that was damaged and kept says so in
    ``oddities``. ``progress`` shows how far it is, or is called with the numbers of rows and
    rejects so far.

    What is fetched of videos in object storage is kept in ``media_cache``, if one is given, as
    :func:`mmdata.conversion.convert` says.

    A cache keeps frames in the order in which they are shown: ``times:`` and ``frames:`` must
    ascend.

    Raises:
        UsageError: an argument is wrong, or there is a store at ``target`` and ``overwrite`` is
            off.
        StoreError: ``source`` is no store, or another process is writing to ``target``.
        DataError: ``source`` has no row; nothing is written.
    """
    started = time.monotonic()
    check_address(engine, address)
    limits = limits or Limits()
    scaler(size, resize)
    chosen = Strategy.parse(strategy)
    if chosen.is_list and list(chosen.arguments) != sorted(chosen.arguments):
        raise UsageError(
            f"{chosen}: a cache keeps frames in the order in which they are shown; write "
            f"{Strategy(chosen.name, tuple(sorted(chosen.arguments)))}"
        )
    recipe = _Recipe(str(chosen), size, resize, codec, quality, pad, snap, on_damage, limits)
    place, cache = local_path(target, "store"), media_cache_of(media_cache)
    opened = stores.open(source, media_root=media_root)
    if not len(opened):
        raise DataError(f"{opened.path}: {why_empty(opened.path)}")

    writer = StoreWriter(
        place,
        sources=list(opened.manifest.sources),
        origin=_origin(opened, recipe),
        overwrite=overwrite,
        journal=[_JOURNAL],
        resume=resume,
    )
    take: Callable[[range], Iterator[list[_Cached] | _Refused]]
    if engine == "local" and partitions in (None, 1):
        take = partial(_take_frames, opened, recipe, cache, workers)
    else:
        take = partial(
            map_ranges,
            partial(_list_frames, opened, recipe, cache),
            together=_TOGETHER,
            least=_LEAST,
            lost=lambda error: _Refused(error.reason, str(error)),
            partitions=partitions,
            engine=engine,
            workers=workers,
            address=address,
        )
    builder = BatchBuilder()
    rejected = 0
    oddities: Counter[str] = Counter()

    with (
        writer,
        _Journal(writer.folder / _JOURNAL, opened, recipe) as journal,
        show_progress(progress, "decoding", len(opened)) as update,
    ):
        for row, found in enumerate(_all_frames(journal, len(opened), take)):
            conversation = opened[row]
            if isinstance(found, _Refused):
                rejected += 1
                reason = Reason.of(found.reason)
                builder.reject(Reject(row, str(opened.path), conversation.id, reason, found.detail))
            else:
                builder.append(
                    _with_frames(conversation, found),
                    file=str(opened.path),
                    record=row,
                    id=conversation.id,
                )
            if builder.is_full or row == len(opened) - 1:
                batch = builder.build()
                oddities.update(count_batch(batch).oddities)
                writer.write(batch)
            update(row + 1, rejected)
        if oddities or "oddities" in opened.manifest.notes:  # of rows that may be rejects here
            writer.describe(oddities=dict(sorted(oddities.items())))

    return CacheReport(
        store=place,
        records_in=len(opened),
        rows=writer.rows,
        rejects=dict(sorted(writer.rejects.items())),
        resumed=journal.resumed,
        seconds=time.monotonic() - started,
    )


def cached_frames(media: Media) -> Frames:
    """Return the frames that a cache holds of a video:
    pixels (frames, height, width, 3) uint8 and their times.

    Their numbers count the cached frames.

    Raises:
        MediaError: the medium has no cached frames, or one of them is damaged.
    """
    import numpy as np

    from mmdata.video import Frames

    if not media.frames or media.frame_times is None:
        raise MediaError(
            f"{media.path}: has no cached frames; `mmdata frames` makes them", path=media.path or ""
        )
    pixels = _decode_frames(media.frames, media.path or "")
    return Frames(
        pixels, np.array(media.frame_times), np.arange(len(pixels)), media.times or "stream"
    )


def _decode_frames(frames: Sequence[bytes], name: str) -> NDArray[np.uint8]:
    """(frames, height, width, 3) uint8. JPEG is FFmpeg's to decode:
    that takes two thirds of Pillow's time.
    """
    import numpy as np

    from mmdata.image import decode

    if all(frame.startswith(b"\xff\xd8") for frame in frames):
        return _jpegs(frames, name)
    return np.stack([decode(frame, upright=False) for frame in frames])


def _jpegs(frames: Sequence[bytes], name: str) -> NDArray[np.uint8]:
    """(frames, height, width, 3) uint8."""
    import numpy as np

    from mmdata.video.pixels import rgb
    from mmdata.video.reformat import Reformatter

    pictures = _pictures(frames, name)
    first = next(pictures)
    reformatter = Reformatter()
    pixels = np.empty((len(frames), first.height, first.width, 3), np.uint8)
    for number, picture in enumerate(chain([first], pictures)):
        if (picture.height, picture.width) != (first.height, first.width):
            raise MediaError(
                f"{name}: cached frame {number} is of another size; make the cache anew", path=name
            )
        pixels[number] = rgb(reformatter, picture)
    return pixels


def _pictures(frames: Sequence[bytes], name: str) -> Iterator[VideoFrame]:
    import av
    from av.video.codeccontext import VideoCodecContext

    decoder = VideoCodecContext.create("mjpeg", "r")
    decoder.thread_count = 1
    for number, frame in enumerate(frames):
        try:
            [picture] = decoder.decode(av.Packet(frame))
        except (av.FFmpegError, ValueError) as error:
            raise MediaError(
                f"{name}: cached frame {number} is damaged: {error}; make the cache anew", path=name
            ) from error
        yield picture


# --- one video, in a worker
# ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cached:
    """The frames of one video: encoded pictures and times in seconds; and ``file``, the fields of
    :class:`mmdata.schema.Media` that say when all frames are of the file that they were taken from,
    and which oddities were found in it on the way.
    """

    frames: tuple[bytes, ...]
    times: tuple[float, ...]
    file: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why a record has no frames:
    the code of a :class:`mmdata.rejects.Reason`, and what was found.
    """

    reason: str
    detail: str


def _take(recipe: _Recipe, cache: MediaCache | None, videos: Sequence[Media]) -> list[_Cached]:
    """Sample and encode the videos of one record."""
    found = []
    for video in videos:
        paths = [video.path or ""] if video.frame_paths is None else video.frame_paths
        try:
            found.append(_take_one(video, recipe, cache))
        except Exception as error:  # here whatever a decoder raises becomes the record's
            raise as_media_error(error, paths[0]) from error
    return found


def _take_one(video: Media, recipe: _Recipe, cache: MediaCache | None) -> _Cached:
    from mmdata.video import sample, source_of
    from mmdata.video.clock import stored_clock

    # Of what is to be kept of a damaged file, the file itself has to tell.
    clock = stored_clock(video) if recipe.on_damage == "raise" else None
    frames = sample(
        source_of(video, cache=cache),
        recipe.strategy,
        size=recipe.size,
        resize=recipe.resize,
        pad=recipe.pad,
        snap=recipe.snap,
        start=video.start,
        end=video.end,
        clock=clock,
        on_damage=recipe.on_damage,
        limits=recipe.limits,
    )
    pictures = tuple(_encode_frames(pixels, recipe) for pixels in frames.pixels)
    return _Cached(pictures, tuple(frames.times.tolist()), _clock_fields(frames))


def _clock_fields(frames: Frames) -> Mapping[str, Any]:
    clock = frames.clock
    assert clock is not None, "what is sampled of a file has its clock"
    return {
        "times": clock.source,
        "clock": None if clock.stored is None else to_builtins(clock.stored),
        "num_frames": len(clock),
        "fps": clock.fps,
        "duration": clock.duration,
        "oddities": ["damaged"] if frames.damage else [],
    }


def _encode_frames(pixels: NDArray[np.uint8], recipe: _Recipe) -> bytes:
    from PIL import Image

    options: dict[str, Any] = (
        {"lossless": True, "method": 0} if recipe.codec == "webp" else {"quality": recipe.quality}
    )
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, recipe.codec, **options)
    return file.getvalue()


# --- all videos, in order
# ------------------------------------------------------------------------------------------


def _all_frames(
    journal: _Journal,
    count: int,
    take: Callable[[range], Iterator[list[_Cached] | _Refused]],
) -> Iterator[list[_Cached] | _Refused]:
    """Yield for every row the frames of its videos, or why there are none: those that the journal
    has, and those that are taken of the rest, which it keeps.
    """
    yield from journal.earlier()
    for found in take(range(journal.resumed, count)):
        journal.add(found)
        yield found


def _list_frames(
    opened: stores.Store, recipe: _Recipe, cache: MediaCache | None, rows: range
) -> list[list[_Cached] | _Refused]:
    """Return what :func:`_take_frames` yields, as an engine takes it."""
    limits = recipe.limits
    with lend_pool(deadline=limits.deadline, memory=limits.memory) as pool:
        return list(_take_frames_in(pool, opened, recipe, cache, rows))


def _take_frames(
    opened: stores.Store,
    recipe: _Recipe,
    cache: MediaCache | None,
    workers: int | None,
    rows: range,
) -> Iterator[list[_Cached] | _Refused]:
    """Yield for some rows the frames of their videos, or why there are none."""
    limits = recipe.limits
    with Pool(workers or processors(), deadline=limits.deadline, memory=limits.memory) as pool:
        yield from _take_frames_in(pool, opened, recipe, cache, rows)


def _take_frames_in(
    pool: Pool, opened: stores.Store, recipe: _Recipe, cache: MediaCache | None, rows: range
) -> Iterator[list[_Cached] | _Refused]:
    asked: deque[list[Media]] = deque()  # the videos of each row that a worker was asked for

    def questions() -> Iterator[tuple[list[Media]]]:
        for row in rows:
            asked.append(_videos(opened, row))
            yield (asked[-1],)

    take = partial(_take, recipe, cache)
    deadline_of = partial(_deadline_of, recipe.limits)
    for outcome in pool.map(take, questions(), deadline_of=deadline_of):
        videos = asked.popleft()
        if isinstance(outcome, Exception):
            error = as_media_error(outcome, ", ".join(map(_name, videos)))
            yield _Refused(error.reason, str(error))
        else:
            yield outcome


def _name(video: Media) -> str:
    """Return how messages call a video."""
    first = video.frame_paths[0] if video.frame_paths else ""
    return video.path or first or "a video in the record"


def _deadline_of(limits: Limits, videos: Sequence[Media]) -> float:
    """Return the seconds that sampling the videos of a record may take."""
    size, seconds = 0, 0.0
    for video in videos:
        paths = video.frame_paths if video.path is None else (video.path,)
        size += sum(map(len, (video.bytes or b"", *(video.frames or ()))))
        size += sum(count_bytes(path) for path in paths or () if not is_url(path))
        seconds += video.duration or 0.0
    return limits.deadline_of(size, seconds)


def _videos(opened: stores.Store, row: int) -> list[Media]:
    """Return the videos of a row, without the pictures that an earlier cache has of them beside
    what they were taken from.
    """
    videos = [medium for medium in opened.located(row).media if medium.type == "video"]
    return [
        replace(video, frames=None, frame_times=None)
        if video.bytes or video.path or video.frame_paths
        else video
        for video in videos
    ]


def _with_frames(conversation: Conversation, found: list[_Cached]) -> Conversation:
    cached = iter(found)
    return replace(
        conversation, media=tuple(_fill_in(medium, cached) for medium in conversation.media)
    )


def _fill_in(medium: Media, cached: Iterator[_Cached]) -> Media:
    if medium.type != "video":
        return medium
    found = next(cached)
    facts = dict(found.file)
    # What a journal kept has been through JSON.
    clock = None if facts["clock"] is None else convert(facts["clock"], CompactTimes)
    facts |= {"clock": clock, "frames": found.frames, "frame_times": found.times}
    known = medium.oddities or ()
    new = tuple(one for one in facts.pop("oddities") if one not in known)
    return replace(medium, bytes=None, oddities=(known + new) or None, **facts)


def _origin(opened: stores.Store, recipe: _Recipe) -> Origin:
    manifest = opened.manifest
    notes = {key: value for key, value in asdict(recipe).items() if key != "limits"}
    return Origin(
        format=manifest.format,
        options=manifest.options,
        media_root=str(opened.media_root) if opened.media_root else None,
        files=manifest.files,
        notes={**manifest.notes, "frames": notes},
    )


class _Journal:
    """What is done, row by row, so that a run that was stopped can go on.

    The file begins with a line that says what the run is; then, for every row, a line of JSON and
    the pictures. Its last row may be cut; an attempt with other arguments begins anew.
    """

    def __init__(self, path: Path, opened: stores.Store, recipe: _Recipe) -> None:
        self._path = path
        source = {
            "store": opened.fingerprint,
            "media_root": str(opened.media_root),
            "version": mmdata.__version__,
        }
        self._head = json.dumps({**source, **asdict(recipe)}).encode() + b"\n"
        self.resumed = 0

    def __enter__(self) -> _Journal:
        self._path.touch()
        self._file = self._path.open("r+b")
        if self._file.readline() != self._head:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(self._head)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        close_after(error, self._file)

    def earlier(self) -> Iterator[list[_Cached] | _Refused]:
        """Yield what an earlier attempt found, and cut off what it did not finish."""
        whole = self._file.tell()
        while (found := _read(self._file)) is not None:
            whole = self._file.tell()
            self.resumed += 1
            yield found
        self._file.seek(whole)
        self._file.truncate()

    def add(self, found: list[_Cached] | _Refused) -> None:
        """Note one more row."""
        videos = [] if isinstance(found, _Refused) else found
        facts = [
            {"times": one.times, "file": one.file, "sizes": list(map(len, one.frames))}
            for one in videos
        ]
        line = asdict(found) if isinstance(found, _Refused) else facts
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.writelines(chain.from_iterable(one.frames for one in videos))
        self._file.flush()


def _read(file: BinaryIO) -> list[_Cached] | _Refused | None:
    """The next row of a journal, or None if it is not there whole."""
    line = file.readline()
    if not line.endswith(b"\n"):
        return None

    facts = json.loads(line)
    if isinstance(facts, dict):
        return _Refused(**facts)

    found = []
    for video in facts:
        pictures = tuple(file.read(size) for size in video["sizes"])
        if list(map(len, pictures)) != video["sizes"]:
            return None
        found.append(_Cached(pictures, tuple(video["times"]), video["file"]))

    return found
