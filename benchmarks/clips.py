"""What peers do with one clip, the same as ours: a module of its own, for processes import it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import xxhash
from PIL import Image

FRAMES: Final = 100
"""How many frames a clip has."""
KEPT: Final = 16
"""How many of them are kept as pictures."""
SIZE: Final = 224
QUALITY: Final = 90


def count_frames(clips: Sequence[str]) -> int:
    """Decode clips whole, one after the other."""
    return sum(len(look_into(clip)["times"]) for clip in clips)


def look_into(clip: str) -> dict[str, Any]:
    """Decode a clip whole, on one thread, by a decoder that conceals nothing."""
    times: list[float | None] = []
    with av.open(clip) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        stream.codec_context.options = {"err_detect": "explode"}
        for frame in container.decode(stream):
            if not times:
                frame.to_ndarray(format="rgb24")
            times.append(frame.time)
    content = xxhash.xxh3_64_hexdigest(Path(clip).read_bytes())
    return {"hash": f"xxh3:{content}", "times": times, "pictures": []}


def take_frames(clip: str) -> dict[str, Any]:
    """Decode a clip on one thread, and keep the frames that are wanted."""
    wanted = dict.fromkeys(np.linspace(0, FRAMES - 1, KEPT).astype(int).tolist())
    pictures, times = [], []
    with av.open(clip) as container:
        container.streams.video[0].thread_type = "NONE"
        for number, frame in enumerate(container.decode(video=0)):
            if number not in wanted:
                continue
            # In two steps, each of which swscale has vector code for.
            small = frame.reformat(SIZE, SIZE, interpolation="AREA")
            file = io.BytesIO()
            pixels = small.to_ndarray(format="rgb24")
            Image.fromarray(pixels).save(file, "jpeg", quality=QUALITY)
            pictures.append(file.getvalue())
            times.append(frame.time)
    return {"hash": "", "times": times, "pictures": pictures}
