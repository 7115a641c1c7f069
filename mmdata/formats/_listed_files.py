"""Chats as MindFormers' ``data_process.py`` writes them: the files of a record are listed before
its first words, each between two reserved tokens, and ``<image>`` stands where one is shown; what
lists nothing has the tokens with nothing between, and every other turn begins with ``<text>``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

__all__ = ["TEXT_MARK", "place_listed_files"]

TEXT_MARK: Final = re.compile(r"\s*<text>(?!.*</text>)", re.DOTALL)
"""What stands before the words of a turn; not what a web page calls a pair of tags."""

_START: Final = "<|reserved_special_token_3|>"
_END: Final = "<|reserved_special_token_4|>"
_FILE: Final = re.compile(rf"{re.escape(_START)}([^<>\n]{{0,1024}}){re.escape(_END)}")
_FILES: Final = re.compile(rf"\s*(?:{_FILE.pattern})+(?:<text>)?")
_PLACE: Final = re.compile("<(?:image|video)>")


def place_listed_files(contents: Sequence[Any]) -> list[Any]:
    """Return what turns say, with each listed file where the words place it; without such places
    the files stay before the words.

    >>> place_listed_files([f"{_START}a.jpg{_END}What is <image>?", "<text>A cup."])[1]
    'A cup.'
    """
    if not any(isinstance(content, str) and _FILES.match(content) for content in contents):
        return list(contents)
    return [_place(content) if isinstance(content, str) else content for content in contents]


def _place(content: str) -> str:
    if mark := TEXT_MARK.match(content):
        return content[mark.end() :]
    listed = _FILES.match(content)
    if listed is None:
        return content

    words = content[listed.end() :]
    files = [file[0] for file in _FILE.finditer(listed[0]) if file[1]]
    if len(_PLACE.findall(words)) != len(files):
        return "".join(files) + words
    following = iter(files)
    return _PLACE.sub(lambda _: next(following), words)
