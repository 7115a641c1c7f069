"""Our times of the frames of clips beside those that other decoders tell."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmdata import video
from mmdata.errors import VideoError

__all__ = ["print_differences"]


def print_differences(clips: list[str], *, as_json: bool) -> None:
    """Print by how many milliseconds at most the times of a clip's frames differ, where both count
    as many frames.
    """
    for clip in clips:
        name = Path(clip).name
        try:
            found = video.sample(clip, "every:1", size=16, on_damage="keep")
        except VideoError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        differences = {peer: _difference(times, clip, found.times) for peer, times in PEERS.items()}
        if as_json:
            row = {"name": f"times of {name}", "source": found.times_source, "unit": "ms"}
            print(json.dumps(row | {"peers": differences}))
        else:
            said = ", ".join(f"{peer}: {what}" for peer, what in differences.items())
            print(f"times of {name} ({found.times_source}), largest difference: {said}")


def _difference(
    times: Callable[[str], NDArray[np.float64]], clip: str, ours: NDArray[np.float64]
) -> str:
    try:
        theirs = times(clip)
    except Exception as error:  # whatever a decoder raises, and where it is not installed
        return f"cannot tell ({str(error).splitlines()[0][:60]})"
    if len(theirs) != len(ours):
        return f"counts {len(theirs)} frames of {len(ours)}"
    return f"{1e3 * np.abs(theirs - theirs[0] - ours).max():.3f} ms"


def _decord(clip: str) -> NDArray[np.float64]:
    import decord

    reader = decord.VideoReader(clip, num_threads=1)
    times: NDArray[np.float64] = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    return times.astype(np.float64)


def _torchcodec(clip: str) -> NDArray[np.float64]:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(clip, num_ffmpeg_threads=1, seek_mode="exact")
    # One at a time: all frames of a clip at full size may be more than there is memory.
    times = [decoder.get_frame_at(number).pts_seconds for number in range(len(decoder))]
    return np.array(times, np.float64)


PEERS: dict[str, Callable[[str], NDArray[np.float64]]] = {
    "decord": _decord,
    "torchcodec": _torchcodec,
}
