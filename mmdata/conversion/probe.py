"""What a media file is, and whether it is sound."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from mmdata._tools.limits import Limits, OnDamage
from mmdata._tools.options import checked
from mmdata.conversion.fingerprint import Fingerprint, fingerprint
from mmdata.errors import MediaError, UsageError, VideoError
from mmdata.schema import CompactTimes, MediaType, Oddity, TimeSource
from mmdata.video.folder import with_clock
from mmdata.video.index import Index
from mmdata.video.pictures import Pictures, VideoSource
from mmdata.video.source import Source as File
from mmdata.video.source import name_of

__all__ = ["Level", "Probe", "Source", "check", "probe"]

Source: TypeAlias = VideoSource
Level: TypeAlias = Literal["probe", "decode"]


@dataclass(frozen=True, slots=True)
class Probe:
    """What a media file is, in the terms of :class:`mmdata.schema.Media`.

    ``width`` and ``height`` are pixels as presented; ``duration`` seconds, ``fps``, ``num_frames``
    ``times`` and ``clock`` are None for an image. ``size`` and ``hash`` are the file's
    (:mod:`mmdata.conversion.fingerprint`). ``damage`` says in words what is wrong with a file that
    decodes in part; empty if it is sound. ``oddities`` says how a sound one is oddly made.
    """

    type: MediaType
    width: int
    height: int
    duration: float | None = None
    fps: float | None = None
    num_frames: int | None = None
    times: TimeSource | None = None
    size: int | None = None
    hash: str | None = None
    damage: tuple[str, ...] = ()
    clock: CompactTimes | None = None
    oddities: tuple[Oddity, ...] = ()


@checked
def probe(
    source: Source,
    type: MediaType,  # noqa: A002
    *,
    level: Level = "probe",
    clock: CompactTimes | None = None,
    on_damage: OnDamage = "raise",
    limits: Limits | None = None,
) -> Probe:
    """Return what a media file is, damaged or not.

    ``level="probe"`` reads the headers and packets of it (of a remote MP4 or MOV its tables in the
    place of the packets), decodes the first frame of a video, and hashes its two ends; ``"decode"``
    decodes it to the end, and hashes all of it. ``source`` is a path, the bytes of a file, or the
    pictures that a video is given as. ``clock`` says when the pictures of a folder are, where that
    is known. ``on_damage`` is that of :func:`mmdata.video.sample`, by which it is decoded: with
    ``"keep"``, what is said of a damaged video is said of the frames that decode.

    Raises:
        MediaError: with ``path`` and ``reason``; nothing of it can be decoded, or a limit is
            exceeded.
        UsageError: pictures are said to be one image.
    """
    limits = limits or Limits()
    if isinstance(source, Pictures) and type != "video":
        raise UsageError(f"{source.name}: pictures are a video, found the type {type!r}")
    if type == "audio":
        name = "" if isinstance(source, bytes) else _name(source)
        what = "is audio, which nothing looks into yet (--check exists keeps it by name)"
        raise MediaError(f"{name or 'a medium'}: {what}", path=name, reason="unsupported_media")

    # Taken before it is decoded: a file that takes its place meanwhile must not pass for it.
    mark = _mark(source, level)
    if type == "image" and not isinstance(source, Pictures):
        found = _image(source, level, limits)
    else:
        found = _video(with_clock(source, clock), level, on_damage, limits)
    if mark is None:
        name = _name(source)
        raise MediaError(
            f"{name}: file not found when decoding began", path=name, reason="missing_media"
        )

    return replace(found, size=mark.size, hash=mark.hash)


@checked
def check(
    source: Source,
    type: MediaType,  # noqa: A002
    *,
    level: Level = "probe",
    clock: CompactTimes | None = None,
    on_damage: OnDamage = "raise",
    limits: Limits | None = None,
) -> Probe:
    """Return what a sound media file is; arguments as :func:`probe`. With ``on_damage="keep"`` a
    video that decodes in part passes, and ``damaged`` is among its oddities.

    Raises:
        MediaError: as :func:`probe`, and with the reason ``damaged_media`` for a file that decodes
            in part.
    """
    found = probe(source, type, level=level, clock=clock, on_damage=on_damage, limits=limits)
    if found.damage and on_damage == "keep":
        return replace(found, oddities=(*found.oddities, "damaged"))
    if found.damage:
        name = _name(source)
        raise VideoError(
            f"{name}: damaged: {'; '.join(found.damage)}; {found.num_frames} frames could be read, "
            "on_damage=keep (--on-damage keep) takes them",
            path=name,
            reason="damaged_media",
            frames_read=found.num_frames or 0,
        )
    return found


def _name(source: Source) -> str:
    """Return how messages call a source."""
    return source.name if isinstance(source, Pictures) else name_of(source)


def _mark(source: Source, level: Level) -> Fingerprint | None:
    """Return the fingerprint of a file;
    None where it cannot be read, which a decoder says better.
    """
    try:
        content = source.paths if isinstance(source, Pictures) else source
        return fingerprint(content, whole=level == "decode")
    except (OSError, ValueError):  # the latter of a name that no file can have
        return None


def _image(source: File, level: Level, limits: Limits) -> Probe:
    from mmdata import image

    if level == "decode":
        height, width = image.decode(source, limits=limits).shape[:2]
    else:
        height, width = image.size_of(source, limits=limits)
    return Probe("image", width, height)


def _video(source: VideoSource, level: Level, on_damage: OnDamage, limits: Limits) -> Probe:
    from mmdata.video.reader import decodes_strictly, index, index_by_decoding

    if level == "probe":
        found = index(source, limits=limits)
        if found.damage and on_damage == "keep":
            # Its packets promise frames that there are not: only decoding tells which there are.
            found = index_by_decoding(source, limits=limits)
        if found.refusal:  # which decoding to the end finds by itself
            name = _name(source)
            raise VideoError(f"{name}: {found.refusal}", path=name)
        return _as_probe(found)

    # As strictly as frames are sampled: what passes here is not refused in training.
    strict = on_damage == "raise"
    found = index_by_decoding(source, limits=limits, strict=strict)
    if strict and found.damage:
        # Which frames there are says a decoder that conceals what it can.
        kept = index_by_decoding(source, limits=limits)
        # A strict decoder also refuses what leads the first keyframe, which nobody samples.
        sound = not kept.damage and decodes_strictly(source, limits)
        found = kept if sound else replace(kept, damage=kept.damage or found.damage)
    return _as_probe(found)


def _as_probe(found: Index) -> Probe:
    return Probe(
        "video",
        found.width,
        found.height,
        duration=found.duration,
        fps=found.fps,
        num_frames=found.num_frames,
        times=found.times_source,
        damage=found.damage,
        clock=found.stored,
        oddities=found.oddities,
    )
