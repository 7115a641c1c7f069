"""Other decoders of video, each a way to take the same frames on one thread."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["SIDE", "Decoder", "installed"]

SIDE = 224

Decoder: TypeAlias = Callable[[str, Callable[[int], Sequence[int]]], Any]
"""From the path of a clip, and from a number of frames to those that are wanted, to pixels."""


def installed(names: Sequence[str]) -> dict[str, Decoder]:
    """Return the decoders of these names that are installed; say of the others that they are not.

    Of `opencv` there are two ways: it seeks to each frame, as MindFormers does, and it grabs
    forward, which decodes all but converts none that is not wanted. `torchcodec` scales by its own
    Resize (which needs no torchvision, or a working one), `torchcodec, torch` gives full frames to
    torch's antialiased bilinear interpolation, `torch aliased` to the one that drops pixels.
    """
    found: dict[str, Decoder] = {}
    for name in names:
        decoder, module = _DECODERS[name]
        try:
            importlib.import_module(module)
        except (ImportError, OSError, RuntimeError) as error:  # the latter two of shared libraries
            print(f"{name} is not measured: {str(error).splitlines()[0]}", file=sys.stderr)
        else:
            found[name] = decoder
    return found


def torchcodec(clip: str, wanted: Callable[[int], Sequence[int]], *, mode: Any = "exact") -> Any:
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    decoder = VideoDecoder(
        clip, num_ffmpeg_threads=1, seek_mode=mode, transforms=[Resize((SIDE, SIDE))]
    )
    return decoder.get_frames_at(list(wanted(len(decoder)))).data.numpy()


def torchcodec_torch(
    clip: str, wanted: Callable[[int], Sequence[int]], *, antialias: bool = True
) -> Any:
    import torch
    from torchcodec.decoders import VideoDecoder

    torch.set_num_threads(1)
    decoder = VideoDecoder(clip, num_ffmpeg_threads=1, seek_mode="exact")
    frames = decoder.get_frames_at(list(wanted(len(decoder)))).data
    return torch.nn.functional.interpolate(
        frames, (SIDE, SIDE), mode="bilinear", antialias=antialias
    ).numpy()


def decord(clip: str, wanted: Callable[[int], Sequence[int]]) -> NDArray[np.uint8]:
    import decord as package

    reader = package.VideoReader(clip, num_threads=1, width=SIDE, height=SIDE)
    frames: NDArray[np.uint8] = reader.get_batch(list(wanted(len(reader)))).asnumpy()
    return frames


def opencv(clip: str, wanted: Callable[[int], Sequence[int]]) -> NDArray[np.uint8]:
    import cv2

    capture = _capture(clip)
    pictures = []
    for number in wanted(int(capture.get(cv2.CAP_PROP_FRAME_COUNT))):
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        read, picture = capture.read()
        if not read:
            raise ValueError(f"frame {number} cannot be read")
        pictures.append(_resize(picture))
    return np.stack(pictures)


def opencv_forward(clip: str, wanted: Callable[[int], Sequence[int]]) -> NDArray[np.uint8]:
    import cv2

    capture = _capture(clip)
    numbers = wanted(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    left, pictures = set(numbers), []
    for number in range(max(numbers) + 1):
        if not capture.grab():
            raise ValueError(f"frame {number} cannot be read")
        if number in left:
            pictures.append(_resize(capture.retrieve()[1]))
    return np.stack(pictures)


def _capture(clip: str) -> Any:
    import cv2

    cv2.setNumThreads(1)
    return cv2.VideoCapture(clip, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])


def _resize(picture: Any) -> Any:
    import cv2

    return cv2.cvtColor(cv2.resize(picture, (SIDE, SIDE)), cv2.COLOR_BGR2RGB)


def video_reader(clip: str, wanted: Callable[[int], Sequence[int]]) -> NDArray[np.uint8]:
    package = importlib.import_module("video_reader")  # of which checkers of types know nothing
    reader = package.PyVideoReader(clip, threads=1, target_width=SIDE, target_height=SIDE)
    frames: NDArray[np.uint8] = reader.get_batch(list(wanted(reader.get_shape()[0])))
    return frames


def pyav(clip: str, wanted: Callable[[int], Sequence[int]]) -> NDArray[np.uint8]:
    frames = list(_all_frames(clip))
    return np.stack(
        [
            frames[number].to_ndarray(format="rgb24", width=SIDE, height=SIDE)
            for number in wanted(len(frames))
        ]
    )


def _all_frames(clip: str) -> Iterator[Any]:
    import av

    with av.open(clip) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        yield from container.decode(stream)


# What each is called: how it decodes, and the module that it needs.
_DECODERS: dict[str, tuple[Decoder, str]] = {
    "torchcodec": (torchcodec, "torchcodec.decoders"),
    "torchcodec, approximate": (
        functools.partial(torchcodec, mode="approximate"),
        "torchcodec.decoders",
    ),
    "torchcodec, torch": (torchcodec_torch, "torchcodec.decoders"),
    "torchcodec, torch aliased": (
        functools.partial(torchcodec_torch, antialias=False),
        "torchcodec.decoders",
    ),
    "decord": (decord, "decord"),
    "opencv": (opencv, "cv2"),
    "opencv, forward": (opencv_forward, "cv2"),
    "video-reader-rs": (video_reader, "video_reader"),
    "pyav, all": (pyav, "av"),
}
