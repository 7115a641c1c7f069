"""What the store of this folder was made from."""

from __future__ import annotations

from typing import Final

from mmdata.schema import CompactTimes, Conversation, Media, ToolCall, Video, assistant, user

CLIP: Final = Media(
    "video",
    "clip.mp4",
    width=64,
    height=48,
    duration=0.4,
    fps=25.0,
    num_frames=10,
    times="stream",
    size=999,
    hash="xxh3:0123456789abcdef",
)
SHOTS: Final = Media("video", frame_paths=("1.jpg", "2.jpg"), clock=CompactTimes(step=0.5))
UNEVEN: Final = Media(
    "video", frame_paths=("1.jpg", "2.jpg"), clock=CompactTimes(deltas=(3,), unit=0.25)
)

ROWS: Final = tuple(
    Conversation(
        f"clip-{number}",
        (user(Video(0), "What?"), assistant(ToolCall("look"), train=True)),
        (medium,),
        "a",
        tools="[]",
    )
    for number, medium in enumerate((CLIP, SHOTS, UNEVEN))
)
