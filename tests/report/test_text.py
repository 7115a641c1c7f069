from __future__ import annotations

from mmdata.report.text import conversation_text
from mmdata.schema import (
    Audio,
    Conversation,
    Media,
    Reasoning,
    Text,
    ToolCall,
    assistant,
    tool,
    user,
)


def test_all_that_a_conversation_says_is_shown() -> None:
    media = (Media("audio", "a.wav"), Media("video", frame_paths=("1.jpg", "2.jpg", "3.jpg")))
    call = assistant(Reasoning("I must look."), ToolCall("look", '{"at": 1}', "call_7"))
    answer = assistant("A cup", Text(", no more.", train=False))
    said = (user(Audio(0), "What?"), call, tool("cup"), answer)
    row = Conversation(
        "c1",
        said,
        media,
        "s",
        tools='["look"]',
        rejected=(assistant("A bus."),),
        desirable=True,
        extra={"a": 1},
    )

    assert conversation_text(row).splitlines() == [
        "c1  (s, train)",
        "  [0] audio a.wav",
        "  [1] video 1.jpg to 3.jpg (3 pictures)",
        "",
        'tools: ["look"]',
        "user: <audio 0>",
        "What?",
        "assistant*: <thinks: I must look.>",
        '<calls look as call_7: {"at": 1}>',
        "",
        "tool: cup",
        "assistant*: A cup<not trained: , no more.>",
        "",
        "rejected:",
        "assistant*: A bus.",
        "desirable: yes",
        'extra: {"a": 1}',
        "",
        "* a training target",
    ]
