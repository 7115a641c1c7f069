from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from mmdata.errors import UnknownNameError, UsageError
from mmdata.options import defaults, typed
from mmdata.registry import Registry


@dataclass(frozen=True)
class Several:
    """An option of each type."""

    mode: Literal["a", "b"] = "a"
    prompt: str = ""
    count: int = 1
    limit: int | None = None
    share: float = 0.5
    strict: bool = False
    answers: tuple[str, str] = ("1", "0")


def made(options: dict[str, Any]) -> Several:
    return Several(**typed(Several, "several", options))


def test_text_is_read_as_the_type_an_option_has() -> None:
    texts = {"mode": "b", "prompt": "1", "count": "3", "limit": "9", "share": "0.25", "strict": "yes", "answers": "y,n"}

    assert made(texts) == Several("b", "1", 3, 9, 0.25, True, ("y", "n"))
    assert made({"limit": "none"}) == Several()


def test_values_that_are_typed_already_are_taken_as_they_are() -> None:
    assert made({"count": 3, "answers": ("a", "b"), "limit": None}) == Several(count=3, answers=("a", "b"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"modes": "a"}, "Did you mean 'mode'"),
        ({"mode": "c"}, "must be one of a, b, found 'c'"),
        ({"count": "many"}, "must be a whole number, found 'many'"),
        ({"strict": "perhaps"}, "must be true or false, found 'perhaps'"),
        ({"answers": "one"}, r"must be a tuple of 2 values \(text, text\), found"),
    ],
)
def test_an_option_that_cannot_be_meant_says_what_can(options: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        made(options)


def test_options_are_listed_with_their_defaults() -> None:
    assert defaults(Several)["mode"] == "'a'"
    assert defaults(Several)["limit"] == "None"


def test_a_name_cannot_be_registered_twice() -> None:
    known: Registry[Any] = Registry("mmdata.formats", "format")
    known.register("several")(Several)

    with pytest.raises(ValueError, match="registered twice"):
        known.register("several")(Several)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    known: Registry[Any] = Registry("mmdata.formats", "format")

    with pytest.raises(UnknownNameError, match="Did you mean 'llava'"):
        known.get("lava")
