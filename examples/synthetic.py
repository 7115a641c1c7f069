"""Small sources that are plainly drawn, in the four shapes that people have on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

__all__ = ["write_clip", "write_coco", "write_fewshot", "write_rwf", "write_videos"]

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (230, 200, 40),
}
SHAPES = ("square", "circle")


def write_rwf(root: Path, *, clips: int = 6, seconds: int = 5) -> Path:
    """Write an RWF-2000 tree of AVI clips:
    in the fights a square jumps about, elsewhere it drifts.
    """
    for split, count in (("train", clips), ("val", max(2, clips // 3))):
        for label, jump in (("Fight", 40.0), ("NonFight", 2.0)):
            for number in range(count):
                frames = drifting(seconds * 30, jump=jump, seed=number + 100 * (split == "val"))
                write_clip(
                    root / split / label / f"drawn_{label.lower()}_{number}.avi",
                    frames,
                    rate=30,
                    codec="mpeg4",
                )
    return root


def write_videos(root: Path, *, clips: int = 4) -> Path:
    """Write a LLaVA-Video-178K folder:
    MP4 clips, and a caption and a multiple-choice JSON beside them.
    """
    captions: list[dict[str, object]] = []
    choices: list[dict[str, object]] = []
    for number, colour in zip(range(clips), COLOURS, strict=False):
        video = f"drawn_source/{colour}_{number}.mp4"
        write_clip(
            root / video,
            drifting(60, jump=3.0, seed=number, colour=COLOURS[colour]),
            rate=30,
            codec="h264",
        )
        shared = {"id": f"drawn-{number}", "data_source": root.name, "video": video}
        captions.append(
            {
                **shared,
                "conversations": turns(
                    "<image>\nDescribe the video.", f"A {colour} square drifts about."
                ),
            }
        )
        question = "<image>\nWhich colour is the square?\nA. red\nB. green\nC. blue\nD. yellow"
        answer = f"{'ABCD'[list(COLOURS).index(colour)]}. {colour}"
        choices.append({**shared, "conversations": turns(question, answer)})
    write_json(root / f"{root.name}_cap_processed.json", captions)
    write_json(root / f"{root.name}_mc_processed.json", choices)
    return root


def write_coco(root: Path, *, images: int = 8) -> Path:
    """Write LLaVA-Instruct records about COCO-named pictures,
    and one of them without its picture; return the JSON.
    """
    records: list[dict[str, object]] = []
    for number in range(images):
        colour, shape = list(COLOURS)[number % len(COLOURS)], SHAPES[number % 2]
        name = f"{number:012d}.jpg"
        draw_picture(root / "train2017" / name, colour, shape)
        records.append(
            {
                "id": f"{number:012d}",
                "image": name,
                "conversations": [
                    *turns("<image>\nWhat is in the picture?", f"A {colour} {shape}."),
                    *turns("Is it alone?", "Yes, there is nothing else."),
                ],
            }
        )
    records.append({**records[0], "id": "lost", "image": "999999999999.jpg"})
    return write_json(root / "detail_drawn.json", records)


def write_fewshot(root: Path, *, images: int = 4) -> Path:
    """Write the shape of few-shot sources: a dataset.json of img, prompt and label; return the
    JSON.
    """
    records: list[dict[str, object]] = []
    for number, colour in zip(range(images), COLOURS, strict=False):
        draw_picture(root / "fewshot-data" / f"{number}.png", colour, "circle")
        records.append(
            {
                "img": f"fewshot-data/{number}.png",
                "prompt": "这张图片里有什么?",
                "label": f"A {colour} circle.",
            }
        )
    return write_json(root / "fewshot-data" / "dataset.json", records)


def turns(question: str, answer: str) -> list[dict[str, str]]:
    """Return one question and its answer as LLaVA spells them."""
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def write_json(path: Path, records: list[dict[str, object]]) -> Path:
    """Write records as a JSON array and return the path."""
    path.write_text(json.dumps(records, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def draw_picture(path: Path, colour: str, shape: str) -> None:
    """Draw one shape on grey, 160 pixels wide and 120 high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (160, 120), (128, 128, 128))
    draw = ImageDraw.Draw(picture)
    (draw.rectangle if shape == "square" else draw.ellipse)((50, 30, 110, 90), fill=COLOURS[colour])
    picture.save(path)


def drifting(
    count: int, *, jump: float, seed: int, colour: tuple[int, int, int] = (220, 40, 40)
) -> Iterator[NDArray[np.uint8]]:
    """Yield ``count`` frames, each (120, 160, 3) uint8,
    of a square that moves ``jump`` pixels a frame at random.
    """
    chance = np.random.default_rng(seed)
    place = np.array([60.0, 50.0])
    for _ in range(count):
        place = np.clip(place + chance.uniform(-jump, jump, 2), 0, (130, 90))
        x, y = place.astype(int)
        frame = np.full((120, 160, 3), 128, np.uint8)
        frame[y : y + 30, x : x + 30] = colour
        yield frame


def write_clip(path: Path, frames: Iterator[NDArray[np.uint8]], *, rate: int, codec: str) -> None:
    """Encode frames, each (height, width, 3) uint8, at a constant rate."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate))
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if number == 0:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
