"""From a file to the frames that a strategy wants."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from mmdata.errors import VideoError
from mmdata.limits import Limits
from mmdata.video.frames import Frames
from mmdata.video.index import Index, decoded, scan
from mmdata.video.pixels import Scaler, Size, scaler
from mmdata.video.plan import Plan, Snap, plan
from mmdata.video.reader import Reader
from mmdata.video.sampling import Pad, Strategy
from mmdata.video.source import Source, name_of, opened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["sample"]

OnDamage: TypeAlias = Literal["raise", "keep"]
Planner: TypeAlias = Callable[[Index], Plan]


def sample(
    source: Source,
    strategy: str | Strategy,
    *,
    size: Size = None,
    resize: str = "fast",
    backend: Literal["av", "decord"] = "av",
    pad: Pad = "none",
    snap: Snap = "exact",
    stream: int | None = None,
    start: float | None = None,
    end: float | None = None,
    on_damage: OnDamage = "raise",
    limits: Limits | None = None,
) -> Frames:
    """Return the frames that ``strategy`` takes of a video.

    ``source`` is a path or the bytes of a file. ``size`` is the side of a square or (height, width); None keeps the
    size as presented. ``resize`` says how: ``"fast"`` (swscale bicubic in the step that makes RGB, aspect not kept) or
    the name of a family of :mod:`mmdata.image.families`, exactly as that family does it. ``start``, ``end``, ``pad``
    and ``snap`` are those of :func:`plan`; ``stream`` is the index of a stream in the file.

    A damaged video raises; ``on_damage="keep"`` samples instead from the frames that do decode.

    Raises:
        VideoError: with ``reason`` and ``frames_read``; missing, undecodable, damaged, or beyond the ``limits``.
        UsageError: an option or a strategy that does not exist.

    >>> sample("clip.mp4", "uniform:24", size=224)                                          # doctest: +SKIP
    Frames(pixels=(24, 224, 224, 3) uint8, times=0.000..4.967 s, times_source='stream')
    """
    limits = limits or Limits()
    wanted = partial(plan, strategy=Strategy.parse(strategy), pad=pad, snap=snap, start=start, end=end)
    scale = scaler(size, resize)
    if backend == "decord":
        raise NotImplementedError
    with opened(source, stream, limits, strict=on_damage == "raise") as (container, video):
        found = scan(container, video, source, limits)
        _refuse(source, found.damage, on_damage)
        if not found.damage and not (found.order is None and _needs_keyframes(strategy, snap)):
            reader = Reader(container, video, found, name_of(source))
            planned = wanted(found)
            pixels = _pixels(reader, planned, scale, limits)
            _refuse(source, reader.damage, on_damage, len(pixels))
            if not reader.damage and pixels.keys() >= set(planned.numbers.tolist()):
                return _frames(found, planned, pixels)
    return _from_what_decodes(source, wanted, scale, stream, limits, on_damage)


def _from_what_decodes(
    source: Source, wanted: Planner, scale: Scaler, stream: int | None, limits: Limits, on_damage: OnDamage
) -> Frames:
    """Sample from the frames that a full decode finds, where the packets promised others."""
    found = decoded(source, stream=stream, limits=limits)
    _refuse(source, found.damage, on_damage, found.num_frames)
    planned = wanted(found)
    with opened(source, stream, limits) as (container, video):
        pixels = _pixels(Reader(container, video, found, name_of(source)), planned, scale, limits)
    if missing := sorted(set(planned.numbers.tolist()) - pixels.keys()):
        raise _damaged(source, (f"frame {missing[0]} decodes in a full pass, but not from its keyframe",), len(pixels))
    return _frames(found, planned, pixels)


def _pixels(reader: Reader, planned: Plan, scale: Scaler, limits: Limits) -> dict[int, NDArray[np.uint8]]:
    """Decode the planned frames: number -> (height, width, 3) uint8, all of one size."""
    wanted = set(planned.numbers.tolist())
    found: dict[int, NDArray[np.uint8]] = {}
    for number, frame in reader.frames(wanted):
        found[number] = pixels = scale(frame)
        if pixels.nbytes * len(wanted) > limits.output_bytes:
            raise VideoError(
                f"{reader.name}: {len(wanted)} frames of {pixels.shape[1]}x{pixels.shape[0]} are beyond the limit of "
                f"{limits.output_bytes} bytes; ask for fewer or smaller ones, or raise Limits(output_bytes=...)",
                path=reader.name,
                reason="media_limit",
            )
    return found


def _frames(found: Index, planned: Plan, pixels: dict[int, NDArray[np.uint8]]) -> Frames:
    import numpy as np

    stacked = np.stack([pixels[number] for number in planned.numbers.tolist()])  # (frames, height, width, 3) uint8
    return Frames(stacked, planned.times, planned.numbers, found.times_source, found.damage)


def _needs_keyframes(strategy: str | Strategy, snap: Snap) -> bool:
    return snap == "keyframe" or Strategy.parse(strategy).name == "keyframes"


def _refuse(source: Source, damage: tuple[str, ...], on_damage: OnDamage, frames_read: int = 0) -> None:
    if damage and on_damage == "raise":
        raise _damaged(source, damage, frames_read)


def _damaged(source: Source, damage: tuple[str, ...], frames_read: int) -> VideoError:
    name = name_of(source)
    return VideoError(
        f"{name}: damaged: {'; '.join(damage)}; {frames_read} frames could be read; on_damage='keep' takes them",
        path=name,
        reason="damaged_media",
        frames_read=frames_read,
    )
