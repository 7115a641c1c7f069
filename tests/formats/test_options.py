from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from mmdata.errors import UnknownNameError, UsageError
from mmdata.formats import describe, registry
from mmdata.formats._options import make
from mmdata.registry import Registry


@dataclass(frozen=True)
class Several:
    """A format with an option of each type."""

    summary = "Several options"
    shape = "any"

    mode: Literal["a", "b"] = "a"
    prompt: str = ""
    count: int = 1
    share: float = 0.5
    strict: bool = False
    answers: tuple[str, str] = ("1", "0")


@pytest.fixture
def several() -> Registry[Any]:
    known: Registry[Any] = Registry("mmdata.formats", "format")
    known.register("several")(Several)
    return known


def test_text_is_read_as_the_type_an_option_has(several: Registry[Any]) -> None:
    texts = {"mode": "b", "prompt": "1", "count": "3", "share": "0.25", "strict": "yes", "answers": "yes,no"}

    assert make(several, "several", texts) == Several("b", "1", 3, 0.25, True, ("yes", "no"))


def test_values_that_are_typed_already_are_taken_as_they_are(several: Registry[Any]) -> None:
    assert make(several, "several", {"count": 3, "answers": ("a", "b")}) == Several(count=3, answers=("a", "b"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"modes": "a"}, "Did you mean 'mode'"),
        ({"mode": "c"}, "none of a, b"),
        ({"count": "many"}, "'many' is no int"),
        ({"strict": "perhaps"}, "'perhaps' is no bool"),
        ({"answers": "one"}, "takes 2 values"),
    ],
)
def test_an_option_that_cannot_be_meant_says_what_can(
    several: Registry[Any], options: dict[str, str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        make(several, "several", options)


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'llava'"):
        registry.get("lava")


def test_every_format_describes_itself() -> None:
    for name in registry.names():
        assert registry.get(name).summary in describe(name)
        assert "source=" in describe(name)


def test_a_name_cannot_be_registered_twice(several: Registry[Any]) -> None:
    with pytest.raises(ValueError, match="registered twice"):
        several.register("several")(Several)
