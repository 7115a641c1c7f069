"""The stream: batches of a mixture,
in an order that is a pure function of data, configuration and seed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import Meta

from mmdata._tools.limits import Limits, how_to_raise
from mmdata._tools.options import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    checked,
    faults_of_fields,
)
from mmdata._tools.requirements import processors
from mmdata.errors import ConfigError, DataError, DroppedSampleError, SampleError
from mmdata.pipeline import collate, mindformers, mindspeed_mm, transformers
from mmdata.pipeline.batch import Batch
from mmdata.pipeline.collate import BatchShape, PixelType
from mmdata.pipeline.decoders import Isolated
from mmdata.pipeline.encode import (
    Decode,
    DrawsAnew,
    Place,
    SampleReader,
    Samples,
    decode_views,
)
from mmdata.pipeline.group import GroupBy, Grouping
from mmdata.pipeline.memory import Memory
from mmdata.pipeline.order import Order
from mmdata.pipeline.plan import Cursor, EpochPlan
from mmdata.pipeline.produce import Outcome, RankRows, RankSlice, read_steps, read_whole_epoch
from mmdata.pipeline.skips import Skips
from mmdata.pipeline.state import from_json, template_facts, to_json
from mmdata.pipeline.stopwatch import Stopwatch
from mmdata.pipeline.workers import background, map_in_order
from mmdata.storage import MediaCache
from mmdata.storage._cache import media_cache
from mmdata.templates import Template
from mmdata.templates._media import with_limits
from mmdata.video.sample import OnDamage

__all__ = ["LAYOUTS", "LayoutName", "OnError", "Stream"]

OnError: TypeAlias = Literal["raise", "skip", "mask"]
LayoutName: TypeAlias = Literal["mmdata", "mindformers", "transformers", "mindspeed_mm"]

LAYOUTS: Final[Mapping[LayoutName, tuple[str, ...]]] = {
    "mmdata": collate.COLUMNS,
    "mindformers": mindformers.COLUMNS,
    "transformers": transformers.COLUMNS,
    "mindspeed_mm": mindspeed_mm.COLUMNS,
}
"""The arrays of each layout, in the order in which a network takes them."""

LATE: Final = "late"
"""The reason of samples that met the deadline."""

_REMEMBERED: Final = 1024  # steps whose state can still be asked for


class _Mark(NamedTuple):
    """Where a stream stands after ``step`` batches."""

    step: int
    cursor: Cursor
    left_out: Mapping[str, int]
    empty: Mapping[str, int]


@dataclass(eq=False)
class Stream:
    """Batches of ``mixture`` (a Mixture or a Store) as ``template`` reads them;
    iterate over it once for each epoch.

    What a batch holds, a :class:`mmdata.pipeline.batch.Batch` says. The global batch of step k is
    ``batch_size * world_size`` rows; it is the same whatever the number of ranks, workers and
    restarts, and rank r has the r-th part.

    - ``seq_length``: tokens of a row; ``dynamic`` gives batches the length of their longest row
      instead.
    - ``packing``: several samples in a row, as ``segment_ids`` tell them apart (first-fit
      decreasing over ``window`` samples).
    - ``group_by``: global batches of samples of like ``length``, or of one ``modality`` (text,
      pictures, clips).
    - ``drop_last``: an epoch's last rows that make no global batch are left out, or else repeated
      to fill one.
    - ``on_error``: ``raise`` stops at a sample that cannot be encoded or decoded. ``skip`` leaves
      it out and the next in order moves up, on every rank alike; for this every rank decodes all of
      the global batch. ``mask`` leaves its place empty, nothing is trained there; it costs nothing.
      So does ``skip`` with packing or grouping, whose plans are made before anything is decoded.
      Both log what they leave out, with a line at each epoch's end, and ``skipped`` is a file to
      which a line of JSON is added for each (``epoch``, ``row``, ``id``, ``file``, ``reason``,
      ``detail``); what is read again after a restart is named again.
    - ``on_error_limit``: the share of an epoch's samples (of 1,000 where it has fewer) that may
      fail; beyond it ``skip`` and ``mask`` stop too.
    - ``layout``: how the arrays are called and laid out, see :data:`LAYOUTS`.
    - ``max_views``: how many pictures, tiles and frames a row has room for, so that all batches
      have one shape; of a family of patches, how many features. The layout ``transformers`` fills
      no room.
    - ``pixels``: ``uint8`` as decoded, for the device to normalise, or ``float32``, normalised.
    - ``resize``: ``exact`` as the family does, or ``fast``, where FFmpeg resizes the frames of
      videos, 1 to 3 grey levels off on average, and anyres' pictures, a quarter.
    - ``workers``: threads that decode, by default one a processor; 0 does all where it is asked
      for. ``prefetch``: batches made ahead. ``isolated``: each of these threads decodes in a
      process of its own, so that a file that crashes the decoder costs one sample. ``deadline``:
      seconds that a sample may take; it does not grow with a file, of which only what its frames
      need is decoded. ``memory``: bytes that such a process may take. ``max_pixels``: width times
      height of a picture or a frame.
    - ``on_damage``: ``keep`` takes of a damaged video the frames that decode, which decoding all of
      it tells: give long ones a longer ``deadline``.
    - ``media_cache``: a folder of this machine that keeps what is fetched of media in object
      storage, so that an epoch fetches none of it again: as text with its limit, as in
      ``/scratch/media:200G``, or a :class:`mmdata.storage.MediaCache`. Without a limit it is 64
      GiB.
    """

    mixture: Samples
    template: Template
    _: KW_ONLY
    seq_length: PositiveInt = 2048
    batch_size: PositiveInt = 4
    seed: int = 0
    rank: NonNegativeInt = 0
    world_size: PositiveInt = 1
    shuffle: bool = True
    packing: bool = False
    group_by: GroupBy | None = None
    window: PositiveInt = 1024
    drop_last: bool = True
    on_error: OnError = "raise"
    on_error_limit: Annotated[float, Meta(ge=0, le=1)] = 0.01
    skipped: str | Path | None = None
    layout: LayoutName = "mmdata"
    dynamic: bool = False
    max_views: PositiveInt | None = None
    pixels: PixelType = "uint8"
    resize: Literal["exact", "fast"] = "exact"
    workers: NonNegativeInt | None = None
    prefetch: NonNegativeInt = 2
    isolated: bool = False
    deadline: PositiveFloat = 30.0
    memory: PositiveInt = Limits().memory
    max_pixels: PositiveInt = Limits().pixels
    on_damage: OnDamage = "raise"
    media_cache: str | Path | MediaCache | None = None
    watch: Stopwatch = field(default_factory=Stopwatch, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the options and stand at the beginning."""
        if faults := list(self._faults()):
            raise ConfigError("; ".join(faults))
        if not len(self.mixture):
            raise DataError(
                f"{self.mixture!r}: there is no row to read. "
                "`mmdata info STORE` and `mmdata mix CONFIG --plan` say what was not kept, and why."
            )
        media_cache(self.media_cache)  # refused before anything is read
        self._facts = self._all_facts()
        self._memory = Memory()
        self._mark = _Mark(0, Cursor(), {}, {})
        self._history = deque([self._mark], maxlen=_REMEMBERED)

    # --- iteration
    # ---------------------------------------------------------------------------------------------

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the arrays of a batch, in order; of some a batch may have none, see
        :mod:`mmdata.pipeline.transformers`.
        """
        if self.layout != "mmdata" or self.template.patches is None:
            return LAYOUTS[self.layout]
        return (*collate.COLUMNS, *collate.GRIDS, *(collate.BORDERS if self.packing else ()))

    @property
    def step(self) -> int:
        """How many batches have been taken since the beginning of training."""
        return self._mark.step

    @property
    def steps_per_epoch(self) -> int | None:
        """How many batches an epoch has; None where only reading the samples can tell."""
        if self._verifies or self._looks:
            return None
        whole, rest = divmod(len(self.mixture), self._global_batch)
        return whole if self.drop_last else whole + (rest > 0)

    @property
    def steps_left(self) -> int | None:
        """How many batches are left of the epoch, of the next one if none is;
        None where ``steps_per_epoch`` is.
        """
        if self.steps_per_epoch is None:
            return None
        cursor = self._mark.cursor
        done = cursor.position // self._global_batch + cursor.within  # a window is a batch here
        return self.steps_per_epoch - done or self.steps_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        """Yield what is left of the epoch, or the next epoch if nothing is.

        Raises:
            SampleError: under ``on_error="raise"``; the message names the sample.
            DataError: more samples fail than ``on_error_limit`` allows.
            ConfigError: an epoch makes not one batch.
        """
        for batch, mark in self._epoch(self._mark, self._threads(None)):
            self._mark = mark
            self._remember(mark)
            if batch is not None:
                yield batch

    @checked
    def take(
        self, steps: NonNegativeInt, *, workers: NonNegativeInt | None = None
    ) -> Iterator[Batch]:
        """Yield the next ``steps`` batches, over the ends of epochs;
        the stream stands after them when all are taken.

        Whoever leaves early finds the stream where it was, so that others may look ahead without
        harm. ``workers`` takes the place of the stream's own number.

        Raises:
            SampleError, DataError, ConfigError: as iteration does.
        """
        start, left = self._mark, steps
        while left:
            for batch, mark in self._epoch(start, self._threads(workers)):
                start = mark
                self._remember(mark)
                left -= batch is not None
                if not left:
                    self._mark = mark
                if batch is not None:
                    yield batch
                if not left:
                    return

    def _epoch(self, start: _Mark, workers: int) -> Iterator[tuple[Batch | None, _Mark]]:
        """Yield what is left of the epoch, or the next one,
        with where the stream stands; no batch ends an epoch.
        """
        mark = start
        for _ in range(2):
            with closing(
                background(self._load(mark, workers), self.prefetch if workers else 0)
            ) as made:
                for loaded, batch in made:
                    empty = Counter(mark.empty) + Counter(loaded.empty)
                    mark = _Mark(
                        mark.step + (batch is not None), loaded.after, loaded.left_out, empty
                    )
                    yield batch, mark
            if mark.step > start.step:
                return

        raise ConfigError(
            f"an epoch of {len(self.mixture)} samples makes no batch of {self._global_batch} rows "
            f"({dict(mark.left_out)}); take smaller batches or drop_last=False"
        )

    def _threads(self, workers: int | None) -> int:
        return next(count for count in (workers, self.workers, processors()) if count is not None)

    def _remember(self, mark: _Mark) -> None:
        """Keep the state of a step for those who ask later;
        steps that are made a second time are known.
        """
        if mark.step >= self._history[-1].step:
            self._history.append(mark)

    def _load(
        self, start: _Mark, workers: int
    ) -> Generator[tuple[RankRows, Batch | None], None, None]:
        with ExitStack() as stack:
            decode: Decode = partial(
                decode_views,
                fast=self.resize == "fast",
                on_damage=self.on_damage,
                limits=self._limits,
                cache=media_cache(self.media_cache),
            )
            if self.isolated and workers:
                isolated = Isolated(self.deadline, self.memory, decode=decode)
                decode = stack.enter_context(isolated)
            reader = self._reader(decode, start.cursor.epoch)
            slab = partial(self._batch_shape.slab, memory=self._memory)
            source = read_whole_epoch if self._verifies else partial(read_steps, slab=slab)
            read = partial(self._outcomes, reader, workers)
            skips = self._skips(start.cursor.epoch)
            plan, tolerates = self._plan(reader, skips), partial(self._tolerates, skips)
            steps = source(plan, start.cursor, self._share, read, tolerates)
            unsaid: Counter[str] = Counter()
            for step, loaded in enumerate(steps, start.step + 1):
                batch = self._batch(loaded, start.cursor.epoch, step) if loaded.rows else None
                unsaid.update({} if batch is None else batch.unsaid)
                yield loaded, batch
            skips.close(unsaid)

    def _outcomes(
        self, reader: SampleReader, workers: int, places: Iterator[Place]
    ) -> Iterator[Outcome]:
        ahead = max(2 * workers, self.batch_size)
        late = partial(_late, reader, self.deadline)
        return map_in_order(
            partial(_outcome, reader),
            places,
            workers=workers,
            ahead=ahead,
            deadline=self.deadline,
            late=late,
        )

    def _batch(self, loaded: RankRows, epoch: int, step: int) -> Batch:
        with self.watch.stage("collate"):
            frame = self._batch_shape
            if self.layout == "mindformers":
                arrays = mindformers.mindformers_arrays(loaded.rows, frame, self._share.first)
            elif self.layout == "transformers":
                arrays = transformers.transformers_arrays(
                    loaded.rows, frame, packed=self.packing, memory=self._memory
                )
            elif self.layout == "mindspeed_mm":
                arrays = mindspeed_mm.mindspeed_mm_arrays(loaded.rows, frame, memory=self._memory)
            else:
                arrays = collate.arrays(loaded.rows, frame, loaded.slab, memory=self._memory)
            return Batch(
                arrays={name: arrays[name] for name in self.columns if name in arrays},
                ids=tuple(tuple(sample.id for sample in row) for row in loaded.rows),
                repeated=loaded.repeated,
                tokens=sum(len(sample.encoded) for row in loaded.rows for sample in row),
                media_mask=collate.media_mask(loaded.rows, frame),
                epoch=epoch,
                step=step,
                unsaid=_count_unsaid(loaded),
            )

    # --- state
    # ----------------------------------------------------------------------------------------------

    @checked
    def state_dict(self, *, step: NonNegativeInt | None = None) -> dict[str, Any]:
        """Return where the stream stands after the batches taken so far, as small JSON.

        ``step`` asks for the state after that many batches since the beginning of training, for
        those whose batches are taken ahead of them (MindSpore's engine does); the last thousand are
        known. Any rank's state serves all ranks, and any number of ranks with the same global
        batch. ``left_out`` counts samples that had no place, by reason, on all ranks alike;
        ``empty`` those of this rank whose place stayed empty.

        Raises:
            ConfigError: that step is not known.
        """
        known = (
            [self._mark] if step is None else [mark for mark in self._history if mark.step == step]
        )
        if not known:
            steps = f"{self._history[0].step} to {self._history[-1].step}"
            raise ConfigError(
                f"the state after step {step} is not known; known are those after steps {steps}"
            )
        mark = known[-1]
        return to_json(mark.cursor, mark.step, mark.left_out, mark.empty, self._facts)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a stream of the same data and configuration stood.

        Ranks, workers and all that does not change what is in a global batch may differ.

        Raises:
            ConfigError: it was another stream; the message says what differs.
        """
        cursor, step = from_json(state, self._facts)
        self._mark = _Mark(step, cursor, dict(state["left_out"]), dict(state["empty"]))
        self._history.clear()
        self._history.append(self._mark)

    # --- what the options mean
    # ---------------------------------------------------------------------------------

    @property
    def _global_batch(self) -> int:
        return self.batch_size * self.world_size

    @property
    def _share(self) -> RankSlice:
        return RankSlice(self.rank * self.batch_size, self.batch_size)

    @property
    def _plans_ahead(self) -> bool:
        return self.packing or self.group_by is not None

    @property
    def _verifies(self) -> bool:
        return self.on_error == "skip" and not self._plans_ahead

    @property
    def _looks(self) -> bool:
        limited = self.template.max_length is not None
        return self._plans_ahead or (limited and self.template.over_long != "error")

    @property
    def _limits(self) -> Limits:
        return Limits(pixels=self.max_pixels, deadline=self.deadline, memory=self.memory)

    @property
    def _batch_shape(self) -> BatchShape:
        return BatchShape(self.template, self.seq_length, self.dynamic, self.max_views, self.pixels)

    def _reader(self, decode: Decode, epoch: int) -> SampleReader:
        samples, cache = self.mixture, media_cache(self.media_cache)
        return SampleReader(
            samples.at_epoch(epoch) if isinstance(samples, DrawsAnew) else samples,
            with_limits(self.template, self._limits, cache=cache),
            max_tokens=self.seq_length,
            max_views=self.max_views,
            decode=decode,
            watch=self.watch,
            limits=self._limits,
            cache=cache,
        )

    def _skips(self, epoch: int) -> Skips:
        samples = len(self.mixture)
        if not (self._verifies or self._looks):  # each rank reads its own samples alone
            samples = max(1, samples // self.world_size)
        file = None if self.skipped is None else Path(self.skipped)
        return Skips(epoch, samples, self.on_error_limit, file)

    def _plan(self, reader: SampleReader, skips: Skips) -> EpochPlan:
        room = (self.seq_length, self.max_views) if self.packing else None
        return EpochPlan(
            order=Order(len(self.mixture), self.seed, self.shuffle),
            arrange=Grouping(self._global_batch, self.group_by, room),
            batch=self._global_batch,
            window=max(self.window, 2 * self._global_batch)
            if self._plans_ahead
            else self._global_batch,
            drop_last=self.drop_last,
            look=reader.look if self._looks else None,
            skips=partial(self._leaves_out, skips, everywhere=True),
        )

    def _leaves_out(self, skips: Skips, error: SampleError, *, everywhere: bool) -> bool:
        """Whether a sample that failed is left out, which is then accounted for;
        the template's own limit always leaves out.

        What all ranks leave out ``everywhere`` is written by the first of them.
        """
        if self.on_error == "raise":
            return isinstance(error.__cause__, DroppedSampleError)
        skips.add(error, not everywhere or self.rank == 0)
        return True

    def _tolerates(self, skips: Skips, error: SampleError) -> bool:
        """Whether the stream goes on after a sample could not be read."""
        if self._verifies and self.world_size > 1 and error.reason == LATE:
            return False  # another rank may have been in time, and the ranks would part
        return self._leaves_out(skips, error, everywhere=self._verifies)

    def _all_facts(self) -> dict[str, Any]:
        """All that decides what is in which global batch."""
        options = (
            "seq_length",
            "seed",
            "shuffle",
            "packing",
            "group_by",
            "window",
            "drop_last",
            "on_error",
        )
        frame = ("layout", "dynamic", "max_views", "pixels", "resize")
        return {
            "samples": len(self.mixture),
            "fingerprint": self.mixture.fingerprint,
            "global_batch": self._global_batch,
            **{name: getattr(self, name) for name in options + frame},
            # States of streams that raise are older than this option.
            **({} if self.on_damage == "raise" else {"on_damage": self.on_damage}),
            **template_facts(self.template),
        }

    def _faults(self) -> Iterator[str]:
        """What is wrong with the options, each in words."""
        faults = faults_of_fields(self)
        yield from (fault for name, fault in faults.items() if name != "mixture")
        if "mixture" in faults:
            yield (
                f"mixture must be a store (mmdata.open) or a mixture (Mixture.from_yaml), found "
                f"{self.mixture!r}"
            )
        if not {"rank", "world_size"} & faults.keys() and self.rank >= self.world_size:
            yield (
                f"rank must be 0 to {self.world_size - 1} of world_size {self.world_size}, "
                f"found {self.rank}"
            )

        if self.packing and self.group_by == "length":
            yield "packing fills rows whatever the samples' lengths: leave out group_by='length'"
        if self.packing and self.layout in ("mindformers", "mindspeed_mm"):
            yield (
                f"the layout {self.layout} has no column that tells packed samples apart: "
                "leave out packing"
            )

        if self.packing and "packing" not in faults and not self.template.packs:
            yield f"samples of {type(self.template).__name__} cannot be packed: leave out packing"
        if self.layout == "mindformers" and self.template.patches is not None:
            yield (
                "the layout mindformers has pictures of one size, and "
                f"{type(self.template).__name__} cuts patches of any: take the layout mmdata"
            )
        if self.layout in ("transformers", "mindspeed_mm") and self.template.patches is None:
            yield (
                f"the layout {self.layout} is that of models that read patches of any grid, and "
                f"{type(self.template).__name__} reads squares: take the layout mmdata"
            )
        if self.dynamic and self.layout == "mindformers":
            yield "the layout mindformers has one shape: leave out dynamic"


def _count_unsaid(loaded: RankRows) -> Counter[str]:
    """Return how often templates left out what of the samples, by kind: the words before what says
    where it was. Rows that are there a second time are not counted.
    """
    once = loaded.rows[: len(loaded.rows) - loaded.repeated]
    return Counter(
        words.partition(" (")[0]
        for row in once
        for sample in row
        for words in sample.encoded.unsaid
    )


def _outcome(reader: SampleReader, place: Place) -> Outcome:
    try:
        return reader.read(place)
    except SampleError as error:
        return error


def _late(reader: SampleReader, deadline: float, place: Place) -> Outcome:
    why = f"was not read within {deadline:g} seconds; {how_to_raise('deadline')}"
    return reader.give_up(place.index, why, reason=LATE)
