r"""Marks in text that stand for media, in every spelling that is in use.

Tools that write training data mark the place of a picture in a dozen ways: ``<image>``, ``<image
1>``, ``<image_00>``, ``<ImageHere>``, the tokens of a model family, a path between two of them.
They are one table here, so that each is understood in every format that has words. A mark says what
kind of medium it is for, and it may say which one: by a number, or by a path.

Some spellings are also words that people write, such as ``<Image>`` or ``<video>`` in a web page's
code; whether they count is told by the numbers, see :mod:`mmdata.formats._placement`.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from mmdata.schema import MediaType

__all__ = [
    "ALL_MARKS",
    "CERTAIN_MARKS",
    "FIRST_OF_MARKS",
    "HALF_MARKS",
    "LIKELY_MARKS",
    "STRAY_MARKS",
    "WRITTEN_PICTURES",
    "Mark",
    "has_image_suffix",
    "has_marks",
    "has_video_suffix",
    "parse_mark",
]

_PATH: Final = r"[^<>\n]{1,1024}"
_FILE: Final = r"[^<>\n]{1,1024}\.\w{2,5}"

_WITH_PATH: Final = (
    rf"<img>{_PATH}</img>",  # Qwen-VL, ms-swift 2
    rf"<(?:image|video|audio)>{_FILE}</(?:image|video|audio)>",  # ms-swift 2
    rf"<\|vision_start\|>{_FILE}<\|vision_end\|>",  # Qwen2-VL
    # MindFormers' CogVLM2-Video and LLaVA-NeXT
    rf"<\|reserved_special_token_3\|>{_PATH}<\|reserved_special_token_4\|>(?:<text>)?",
)
_NUMBERED: Final = (
    r"<(?:image|video|audio)[ _-]?[0-9]{1,4}>",  # MMMU, Mantis, MiniCPM-V
    r"<\|(?:image|video|audio)_[0-9]{1,4}\|>",  # Phi-3-vision
)
_TOKENS: Final = (
    "<fake_token_around_image><image>(?:<fake_token_around_image>)?",  # Idefics
    "<(?:Image|Img|img)><image></(?:Image|Img|img)>",  # Mantis
    "<(?:image|video|audio)></(?:image|video|audio)>",  # before its first half
    r"\(<(?:image|video|audio)>\./</(?:image|video|audio)>\)",  # MiniCPM-V's processor
    "<im_start><image><im_end>",  # LLaVA with mm_use_im_start_end
    "<vi_start><video><vi_end>",
    "<(?:image|audio)>",  # LLaVA, ms-swift, LLaMA-Factory
    r"(?:<\|vision_start\|>)?(?:<\|(?:image|video)_pad\|>)+(?:<\|vision_end\|>)?",  # Qwen2-VL
    r"(?:<\|vision_bos\|>)?(?:<\|(?:IMAGE|VIDEO)\|>)+(?:<\|vision_eos\|>)?",  # Qwen2.5-Omni
    r"(?:<\|audio_bos\|>)?(?:<\|AUDIO\|>)+(?:<\|audio_eos\|>)?",
    "(?:<img>)?(?:<IMG_CONTEXT>)+(?:</img>)?",  # InternVL
    "(?:<video>)?(?:<VIDEO_CONTEXT>)+(?:</video>)?",
    r"<\|begin_of_image\|><\|endoftext\|><\|end_of_image\|>",  # GLM-4V's tokenizer
    # GLM-4V, Llama 3.2, Llama 4
    r"(?:<\|(?:begin_of_image|image_start)\|>)?(?:<\|image\|>)+"
    r"(?:<\|(?:end_of_image|image_end)\|>)?",
    r"(?:<\|begin_of_video\|>)?(?:<\|video\|>)+(?:<\|end_of_video\|>)?",
    r"<\|audio\|>",
    # MiniGPT-4, InternLM-XComposer, Video-LLaMA
    "(?:<(?:Img|Video)>)?<ImageHere>(?:</(?:Img|Video)>)?",
    "(?:<Video>)?<VideoHere>(?:</Video>)?",
    "<(?:start_of_image|image_soft_token|image_placeholder)>",  # Gemma 3, DeepSeek-VL
    "<vila/(?:image|video)>",
    "<__dj__(?:image|video|audio)>",  # Data-Juicer
    r"<\|__dj__eoc\|>",  # the end of a chunk, which is no medium
)
_TAGS: Final = ("<video>",)  # as <image>, and in web pages' code
_WORDS: Final = "(?:image|Image|IMAGE|img|Img|IMG|video|Video|VIDEO|picture|Picture)"
_PERHAPS: Final = (
    "<(?:Image|Video|Audio|IMAGE|VIDEO|AUDIO)>",
    "<img>",
    r"(?:\[IMG(?:_BREAK)?\])+\[IMG_END\]",  # Pixtral
    rf"<{_WORDS}[ _:#=-]?[0-9]{{1,4}}>",
    r"< ?(?:image|video) ?/?>",
    rf"\[{_WORDS}(?:[ _#-]{{0,2}}[0-9]{{1,4}})?\]",
    r"\{\{?(?:image|video)(?:_?[0-9]{1,4})?\}\}?",
)

# Many marks begin with tokens that may be left out, so that the expressions have no first character
# of their own to look for: without this they are tried at each character, at twenty times the cost.
FIRST_OF_MARKS: Final = r"(?=<[A-Za-z|/_]|< [iv]|\[[IiVvPp]|\{[{iv]|\(<)"

CERTAIN_MARKS: Final = re.compile(
    f"({FIRST_OF_MARKS}(?:{'|'.join((*_WITH_PATH, *_NUMBERED, *_TOKENS))}))"
)
"""Marks that nobody writes by chance, as the one group of the expression."""
LIKELY_MARKS: Final = re.compile(
    f"({FIRST_OF_MARKS}(?:{'|'.join((*_WITH_PATH, *_NUMBERED, *_TOKENS, *_TAGS))}))"
)
"""Those and the tag of a video, as the one group of the expression."""
ALL_MARKS: Final = re.compile(
    f"({FIRST_OF_MARKS}(?:{'|'.join((*_WITH_PATH, *_NUMBERED, *_TOKENS, *_TAGS, *_PERHAPS))}))"
)
"""Those and all spellings that may be words, as the one group of the expression."""

_NAMES: Final = "image|img|im|video|vid|vi|picture|pic|media|visual|vision|frames?|clip|movie"
_ADDED: Final = (
    "token|pad|patch|placeholder|features?|embeds?|embeddings?|start|end|bos|eos|here|context"
    "|content|url|path|file|[0-9]+"
)
_OTHER_SCRIPTS: Final = (
    "[\uff29\uff49][\uff2d\uff4d][\uff21\uff41][\uff27\uff47][\uff25\uff45]"  # of full width
    "|\u56fe\u7247?|\u56fe\u50cf|\u5716\u7247|\u7167\u7247|\u89c6\u9891|\u8996\u983b"  # Chinese
    "|\u5f71\u7247|\u753b\u50cf|\u5199\u771f|\u52d5\u753b"  # and Japanese
    "|\uc774\ubbf8\uc9c0|\ub3d9\uc601\uc0c1"  # Korean
)
"""Image, picture, photo and video in other scripts."""
_PLAIN_NAMES: Final = (
    rf"(?:(?i:image|img|video|picture|photo)|{_OTHER_SCRIPTS})"
    r"(?:[ _:#=-]{0,2}(?:id_)?[0-9]{0,4})"
)
_BLANK: Final = r"[ \u200b-\u200d\u2060\ufeff\\]?"
"""What may stand between a name and its brackets: a blank, also of no width, or a backslash."""
_OPENING: Final = (
    r"&(?:amp;)*(?:lt|\#0*60|\#[xX]0*3[cC]);|[<\uff1c\ufe64\u2039\u2329\u27e8\u3008\u300a\u3010]"
)
_CLOSING: Final = (
    r"&(?:amp;)*(?:gt|\#0*62|\#[xX]0*3[eE]);|[>\uff1e\ufe65\u203a\u232a\u27e9\u3009\u300b\u3011]"
)
WRITTEN_PICTURES: Final = re.compile(
    r"(!\[[^\]\n]{0,200}\]\(<?([^()<>\s]{1,1024})>?[^()\n]{0,200}\)"
    r"|<img\s(?:[^<>]{0,1000}\s)?src\s*=\s*[\"']?([^<>\"'\s]{1,1024})[\"']?[^<>]{0,1000}>)"
)
"""Pictures as Markdown and web pages show them, with their paths as the second and third group."""
STRAY_MARKS: Final = re.compile(
    r"(?=[<\[{&!\uff1c\ufe64\u2039\u2329\u27e8\u3008\u300a\u3010])(?:"
    rf"<\|?/?(?i:(?:begin_of_|end_of_|start_of_|[a-z]{{1,12}}[_:.-])?(?:{_NAMES})"
    rf"(?:[ _:#=-]{{0,2}}(?:id_)?(?:{_ADDED})){{0,3}}) ?/?\|?>"
    r"|[<\[](?i:image|img|video|picture|photo)(?::|\s{1,4}\w{1,20}=)[^<>\[\]\n]{1,1024}[>\]]"
    rf"|[\[{{]{{1,2}}{_PLAIN_NAMES}[\]}}]{{1,2}}"
    rf"|(?:{_OPENING}){_BLANK}{_PLAIN_NAMES}{_BLANK}(?:{_CLOSING})"
    r"|<unused[0-9]{1,4}>|<reserved_special_token_[0-9]{1,4}>"
    r"|<(?:vila/\w+|IMG_PLH|[BE]OI|[bes]oi|fake_token_around_image|row_[0-9]+_col_[0-9]+)>"
    rf"|<\|mm_\w+\|>|{WRITTEN_PICTURES.pattern})"
)
"""What looks like a mark in a spelling that is in no table: beside media that no mark places, it is
one that was not understood.
"""
HALF_MARKS: Final = re.compile(
    r"</(?:image|Image|Img|IMG|ImageHere)>|<\|(?:image|img|vision|video)_(?:start|end|bos|eos|pad)\|>"
    r"|<fake_token_around_image>|\[IMG_(?:BREAK|END)\]|<(?:im|vi)_(?:start|end|patch)>"
    r"|<row_[0-9]+_col_[0-9]+>"
)
"""What is a part of a mark: beside media, a mark that was not understood as a whole."""
_NUMBER: Final = re.compile(r"[0-9]+")
_BETWEEN: Final = re.compile(r"<[^<>]+>([^<>]+)</?[^<>]+>(?:<text>)?")
_IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_VIDEO_SUFFIXES: Final = (
    ".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp",
)  # fmt: skip


class Mark(Struct, frozen=True, gc=False):
    """A mark: the type of its medium, None for one that marks nothing; its number or its path,
    where it has one. ``from_zero`` says that the number is a 0, so that all are counted from it.
    """

    type: MediaType | None
    number: int | None = None
    path: str | None = None
    from_zero: bool = False


def parse_mark(text: str) -> Mark:
    """Return what a text that :data:`ALL_MARKS` matches says.

    >>> parse_mark("<image 2>").number, parse_mark("<image_00>").from_zero
    (2, True)
    >>> parse_mark("<video>1.mp4</video>")
    Mark(type='video', number=None, path='1.mp4', from_zero=False)
    """
    if text == "<|__dj__eoc|>":
        return Mark(None)

    path = found[1] if (found := _BETWEEN.fullmatch(text)) else None
    mark = text if path is None else text.partition(">")[0]
    name = mark.lower()
    kind: MediaType = "video" if "video" in name else "image"
    if "audio" in name:
        kind = "audio"

    if path is not None:
        if "vision_start" in name or "reserved_special" in name:
            kind = "image" if has_image_suffix(path) else "video"
        return Mark(kind, path=path)

    number = None if "IMG_CONTEXT" in text else _NUMBER.search(mark)
    if number is None:
        return Mark(kind)

    # MiniCPM-V counts <image_00>, <image_01>; all others begin with 1. As every medium needs its
    # mark, the one with a 0 is there where that is how they are counted.
    return Mark(kind, int(number[0]), from_zero=int(number[0]) == 0)


def has_marks(text: str) -> bool:
    """Return whether a text has a likely mark in it; most texts are told by one look for ``<``.

    >>> has_marks("1 < 2"), has_marks("See <ImageHere>.")
    (False, True)
    """
    return "<" in text and LIKELY_MARKS.search(text) is not None


def has_image_suffix(path: str) -> bool:
    """Return whether a file's name says that it is a picture.

    >>> has_image_suffix("frames/0001.JPG"), has_image_suffix("a.mp4")
    (True, False)
    """
    return path.partition("?")[0].lower().endswith(_IMAGE_SUFFIXES)


def has_video_suffix(path: str) -> bool:
    """Return whether a file's name says that it is a video.

    >>> has_video_suffix("clips/a.MP4"), has_video_suffix("a.gif")
    (True, False)
    """
    return path.lower().endswith(_VIDEO_SUFFIXES)
