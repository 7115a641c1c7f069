"""What the stores of this folder were made from."""

from __future__ import annotations

from typing import Final

from mmdata.rejects import Reason, Reject
from mmdata.schema import Conversation, Image, Media, Region, Time, Video, assistant, system, user

ROWS: Final = (
    Conversation(
        "plain-0",
        (user(Image(0), "What is 0?"), assistant("It is 0.")),
        (Media("image", "p/0.png"),),
        "a",
    ),
    Conversation("plain-1", (user("Hi"), assistant("Hello"), user("Bye")), source="a", split="val"),
    Conversation(
        "regions",
        (
            system("Say where things are."),
            user(Region("the cup", ((0.1, 0.2, 0.3, 0.4), (0, 0, 1, 1)), 0), "and", Image(1), "?"),
            assistant("On the left.", train=False),
        ),
        (
            Media("image", "/elsewhere/1.jpg", width=640, height=480),
            Media("image", "p/2.png", bytes=b"\x89PNG bytes of a picture"),
        ),
        "b",
        "test",
        {"score": 0.5, "深": ["nested", {"a": None}], "id": "own"},
    ),
    Conversation(
        "clip",
        (user(Video(0), "When?"), assistant(Time(0.12, 0.28, 0), "so", Time(0.2))),
        (
            Media(
                "video",
                "clip.mp4",
                width=64,
                height=48,
                duration=0.4,
                fps=25.0,
                num_frames=10,
                start=0.0,
                end=0.36,
                times="stream",
            ),
        ),
        "b",
        "train",
        {"fps": 25},
    ),
    Conversation(
        "url",
        (user(Video(0), Image(1), "What?"), assistant("Ünïcödé 😀")),
        (Media("video", "https://host.invalid/a.mp4"), Media("image", bytes=b"only bytes")),
        "a",
    ),
)
"""The rows of ``arrow`` and ``parquet``, in this order."""

REJECTS: Final = (
    Reject(
        1,
        "/data/source.json",
        "r1",
        Reason.MISSING_MEDIA,
        "there is no image at 'p/1.png' under /data",
    ),
    Reject(4, "/data/source.json", None, Reason.BAD_JSON, "line 9, character 99: Expecting value"),
)
"""The rejects of ``arrow`` and ``parquet``."""

CLIPS: Final = (
    Conversation(
        "whole",
        (user(Video(0), "What is shown?"), assistant("Numbers.")),
        (
            Media(
                "video",
                "clip.mp4",
                width=64,
                height=48,
                duration=0.4,
                fps=25.0,
                num_frames=10,
                times="stream",
            ),
        ),
        "clips",
    ),
    Conversation(
        "part",
        (user(Video(0), "And here?"), assistant("Some.")),
        (Media("video", "clip.mp4", start=0.16),),
        "clips",
    ),
    Conversation("none", (user("No clip?"), assistant("None.")), (), "clips"),
)
"""The rows that the frame cache ``frames`` was made from:
the frames 0, 3, 6, 9 of ``clip.mp4``, and 4, 5, 7, 9.
"""
