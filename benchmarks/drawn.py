"""Pictures and clips that are drawn, and a store that names them: what pipelines are timed on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdata.schema import CompactTimes, Conversation, Image, Media, Video, assistant, user
from mmdata.store import Store
from mmdata.store import open as open_store
from mmdata.store.writer import Origin, StoreWriter

FRAMES = 16  # what MindFormers trains LLaVA-NeXT-Video with
SIDE = 336
QUESTION, ANSWER = (
    "What happens here?",
    "A coloured pattern moves over the picture, and then it comes to rest.",
)


def pattern(number: int, height: int, width: int, moment: float) -> NDArray[np.uint8]:
    """A smooth picture with some texture, (height, width, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = [
        np.sin((x * (channel + 1) + y * (number % 5 + 1)) / 37 + moment + number)
        for channel in range(3)
    ]
    grain = np.random.default_rng(number).normal(0, 6, (height, width, 1))
    pixels: NDArray[np.uint8] = (
        (np.stack(waves, -1) * 90 + 128 + grain).clip(0, 255).astype(np.uint8)
    )
    return pixels


def write_picture(path: Path, number: int) -> None:
    from PIL.Image import fromarray

    fromarray(pattern(number, 480, 640, 0)).save(path, quality=90)


def write_clip(path: Path, number: int) -> None:
    import av

    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream(
            "libx264", rate=30, options={"crf": "23", "preset": "veryfast", "g": "60"}
        )
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for frame in range(150):
            file.mux(
                stream.encode(av.VideoFrame.from_ndarray(pattern(number, 360, 640, frame / 9)))
            )
        file.mux(stream.encode())


def write_frames(folder: Path, clip: Path) -> None:
    """The frames of a clip as pictures of the size that the model sees."""
    from PIL.Image import fromarray

    import mmdata.video

    folder.mkdir()
    frames = mmdata.video.sample(clip, f"uniform:{FRAMES}", size=SIDE, resize="crop")
    for number, pixels in enumerate(frames.pixels):
        fromarray(pixels).save(folder / f"{number:02d}.jpg", quality=90)


@dataclass(frozen=True)
class Data:
    """Files of one kind, and the store that names them ``samples`` times in all."""

    kind: str
    files: list[Path]
    store: Store
    samples: int

    @property
    def paths(self) -> list[Path]:
        """The file of each sample."""
        return [self.files[number % len(self.files)] for number in range(self.samples)]


def make_data(root: Path, kind: str, samples: int) -> Data:
    root.mkdir(exist_ok=True)
    files = []
    for number in range(12):
        clip, place = root / f"{number}.mp4", root / f"{number}.jpg"
        if kind == "images":
            write_picture(place, number)
            files.append(place)
            continue
        write_clip(clip, number)
        files.append(clip if kind == "videos" else root / str(number))
        if kind == "frames":
            write_frames(files[-1], clip)
    media = [medium(kind, file) for file in files]
    with StoreWriter(
        root / "store", sources=["bench"], origin=Origin("bench", {}, str(root))
    ) as writer:
        for number in range(samples):
            part = Image(0) if kind == "images" else Video(0)
            turns = (user(part, QUESTION), assistant(ANSWER))
            writer.write_conversations(
                [Conversation(f"s{number}", turns, (media[number % len(media)],), "bench")]
            )
    return Data(kind, files, open_store(root / "store"), samples)


def medium(kind: str, file: Path) -> Media:
    if kind == "images":
        return Media("image", file.name, width=640, height=480)
    if kind == "videos":
        return Media(
            "video",
            file.name,
            width=640,
            height=360,
            fps=30.0,
            num_frames=150,
            duration=5.0,
            clock=CompactTimes(step=1 / 30),
        )
    frames = tuple(picture.read_bytes() for picture in sorted(file.iterdir()))
    return Media(
        "video",
        frames=frames,
        frame_times=tuple(np.linspace(0, 4.967, FRAMES).tolist()),
        width=640,
        height=360,
    )
