"""Each family with a small tokenizer, and conversations of the shapes that it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypothesis import strategies as st

import mmdata.templates
from mmdata.schema import (
    CompactTimes,
    Conversation,
    Image,
    Media,
    Message,
    Part,
    Text,
    Video,
    assistant,
    system,
    user,
)
from mmdata.templates import Template
from mmdata.tokenizers import Tokenizer
from tests.vocabularies import small

Answer = Callable[[Tokenizer, str], list[int]]
Vocabulary = Callable[[str], Tokenizer]


@dataclass(frozen=True)
class Family:
    """A family and a dialect of it:
    its vocabulary, what it reads, and the ids that it trains for an answer.
    """

    name: str
    kind: str
    media: str
    answer: Answer
    options: tuple[tuple[str, Any], ...] = ()
    several_media: bool = False
    system: bool = False
    every_turn: bool = True
    answers_only: tuple[tuple[str, Any], ...] = ()
    marks_trained: bool = False
    says: frozenset[str] = frozenset()
    longest: int = 3000
    fewest_frames: int = 1

    def __str__(self) -> str:
        return f"{self.name}-{dict(self.options).get('dialect', 'default')}"

    def template(self, vocabulary: Vocabulary = small, **options: Any) -> Template:
        """Return the family's template."""
        return mmdata.templates.get(self.name)(
            tokenizer=vocabulary(self.kind), **{**dict(self.options), **options}
        )


def _with(*names: str, before: str = "", after: str = "", newline: bool = False) -> Answer:
    def ids(tokenizer: Tokenizer, text: str) -> list[int]:
        special = tokenizer.special
        start = [special[before]] if before else []
        end = [*(special[name] for name in names), *(tokenizer.encode("\n") if newline else [])]
        return [*start, *tokenizer.encode(text + after), *end]

    return ids


_CHATML = _with("<|im_end|>", newline=True)
_QWEN_MEDIA = (("image_token", "<|extra_0|>"), ("video_token", "<|extra_1|>"))
_ONLY = (("labels", "answers"),)
_APART = (("segments", "apart"),)
_SMALL = (("max_pixels", 80000), ("video_max_pixels", 80000))
"""Pictures of few tokens, so that tests are quick."""
_TURNS = frozenset(
    {
        "a later system message",
        "a later system message (number 1)",
        "two messages of the user in a row",
        "two messages of the assistant in a row",
        "an answer that comes first",
        "a part with a 'train' of its own",
        "a part with a 'train' of its own (in message 0)",
    }
)
"""What a family says that writes every message as a turn of its own."""
_TOOLS = frozenset({"a message of a tool", "a call of the tool 'look'", "tools that were declared"})


FAMILIES = [
    Family(
        "qwen_vl",
        "qwen",
        "image",
        _CHATML,
        several_media=True,
        system=True,
        answers_only=_ONLY,
        marks_trained=True,
    ),
    Family("llava_next_video", "llama2", "both", _with("</s>"), several_media=True, system=True),
    Family(
        "llava_next_video",
        "llama2",
        "both",
        _with("</s>", after=" "),
        options=(("dialect", "mistral_instruct"),),
        several_media=True,
        system=True,
    ),
    Family(
        "llava_next_video",
        "llama2",
        "image",
        _with(after="\n"),
        options=(("dialect", "plain"),),
        system=True,
    ),
    Family(
        "llava_next_video",
        "qwen",
        "both",
        _CHATML,
        options=(("dialect", "qwen_1_5"), ("time_instruction", True), *_QWEN_MEDIA),
        several_media=True,
        system=True,
        answers_only=_ONLY,
        marks_trained=True,
    ),
    Family(
        "llava_next_video",
        "qwen",
        "both",
        _with("<|im_end|>"),
        options=(("dialect", "chatml_direct"), *_QWEN_MEDIA),
        several_media=True,
        system=True,
    ),
    Family("cogvlm2_video", "llama3", "video", _with("<|end_of_text|>"), every_turn=False),
    Family(
        "cogvlm2_video",
        "llama3",
        "video",
        _with("<|end_of_text|>"),
        (("dialect", "base"),),
        every_turn=False,
    ),
    Family(
        "cogvlm2_video",
        "llama3",
        "video",
        _with("<|end_of_text|>"),
        (("dialect", "vqa"),),
        every_turn=False,
    ),
    Family(
        "qwen2_5_vl",
        "qwen2",
        "both",
        _with("<|im_end|>"),
        _SMALL,
        several_media=True,
        system=True,
        answers_only=_APART,
        longest=200,
        fewest_frames=2,
        says=_TURNS,
    ),
    Family(
        "qwen2_5_vl",
        "qwen2",
        "both",
        _with("<|im_end|>"),
        (("dialect", "text"), *_SMALL),
        several_media=True,
        system=True,
        answers_only=_APART,
        longest=200,
        fewest_frames=2,
        says=_TURNS | _TOOLS,
    ),
    Family(
        "qwen3_vl",
        "qwen3",
        "both",
        _with("<|im_end|>"),
        _SMALL,
        several_media=True,
        system=True,
        answers_only=_APART,
        longest=200,
        fewest_frames=2,
        says=(_TURNS - {"a later system message", "a later system message (number 1)"}) | _TOOLS,
    ),
    Family("visualglm", "chatglm", "image", _with("<eop>", before="<sop>"), every_turn=False),
]

_letters = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@cache
def texts(family: Family) -> st.SearchStrategy[str]:
    """Give arbitrary text, some of it empty,
    some of it like control tokens or the family's own words; making strategies is most of their
    cost.
    """
    control = sorted(small(family.kind).special)[:12]
    words = [
        *control,
        " ASSISTANT: ",
        "USER: ",
        "</s>",
        "<image>",
        "Answer:",
        "问：",
        "\n答：",
        "<|im_end|>",
        "\n",
        " ",
    ]
    return st.lists(_letters | st.sampled_from(words), max_size=4).map("".join)


@cache
def pictures(family: Family) -> st.SearchStrategy[Media]:
    """Give images with sizes and videos with times, probed, so that no file is opened."""
    side = st.integers(1, 3000)
    sizes = st.tuples(side, side).filter(
        lambda size: max(size) <= family.longest * min(size)  # some models read no longer ones
    )
    image = sizes.map(lambda size: Media("image", "a.jpg", width=size[0], height=size[1]))
    video = st.builds(
        lambda count, fps, size: Media(
            "video",
            "a.mp4",
            width=size[0],
            height=size[1],
            num_frames=count,
            fps=fps,
            clock=CompactTimes(step=1 / fps),
        ),
        st.integers(family.fewest_frames, 60),
        side,
        sizes,
    )
    return {"image": image, "video": video, "both": image | video}[family.media]


_coin = st.booleans()
_trained = st.sampled_from([True, True, False])
_up_to = cache(lambda highest: st.integers(0, highest))


@cache
def _turns(most: int) -> st.SearchStrategy[int]:
    return st.sampled_from([number for number in (1, 2, 3, 5, 20) if number <= most])


@st.composite
def conversations(draw: st.DrawFn, family: Family, *, turns: int = 20) -> Conversation:
    """Give conversations of 1 to ``turns`` questions with answers."""
    media: list[Media] = []
    messages: list[Message] = []
    if family.system and draw(_coin):
        messages.append(system(draw(texts(family))))
    for _ in range(draw(_turns(turns))):
        messages.append(user(*draw(_question(family, media))))
        messages.append(Message("assistant", (Text(draw(texts(family))),), draw(_trained)))
    return Conversation("c", tuple(messages), tuple(media))


@st.composite
def _question(draw: st.DrawFn, family: Family, media: list[Media]) -> list[Part]:
    content: list[Part] = [Text(draw(texts(family)))]
    while draw(_up_to(3)) == 3 and (family.several_media or not media):
        media.append(draw(pictures(family)))
        part: Part = (Image if media[-1].type == "image" else Video)(len(media) - 1)
        content.insert(draw(_up_to(len(content))), part)
    return content


def said(text: str, question: str = "What?", *media: Media) -> Conversation:
    """Return a conversation of one question, shown ``media`` first, and the answer ``text``."""
    shown = [
        (Image if medium.type == "image" else Video)(number) for number, medium in enumerate(media)
    ]
    return Conversation("c", (user(*shown, question), assistant(text)), media)
