from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytest

import mmdata
from mmdata._tools.options import (
    PositiveInt,
    check_arguments,
    check_fields,
    checked,
    defaults,
    fault_of,
    from_text,
    typed,
)
from mmdata._tools.registry import Registry
from mmdata.errors import UnknownNameError, UsageError
from mmdata.formats.toolkit import RecordSource
from mmdata.image import resizers
from mmdata.pipeline import Stream
from mmdata.pipeline.encode import Samples
from mmdata.video.pixels import scaler
from tests.vocabularies import small

WRONG: Any = object()


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
    texts = {
        "mode": "b",
        "prompt": "1",
        "count": "3",
        "limit": "9",
        "share": "0.25",
        "strict": "yes",
        "answers": "y,n",
    }

    assert made(texts) == Several("b", "1", 3, 9, 0.25, True, ("y", "n"))
    assert made({"limit": "none"}) == Several()


def test_values_that_are_typed_already_are_taken_as_they_are() -> None:
    assert made({"count": 3, "answers": ("a", "b"), "limit": None}) == Several(
        count=3, answers=("a", "b")
    )


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


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("336x672,672x336", tuple[tuple[int, int], ...], ((336, 672), (672, 336))),
        ("1,2,3", tuple[int, ...], (1, 2, 3)),
        ("a,b", tuple[str, ...], ("a", "b")),
        ("224", int | tuple[int, int] | None, 224),
        ("224,336", int | tuple[int, int] | None, (224, 336)),
        ("none", int | tuple[int, int] | None, None),
        ("none", str, "none"),
        ("1e-4", float, 1e-4),
        ("a/b", Path | None, Path("a/b")),
        ("No", bool, False),
    ],
)
def test_text_is_read_as_any_type_that_an_option_may_have(text: str, hint: Any, value: Any) -> None:
    assert from_text(text, hint) == value


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("nan", float),
        ("inf", float),
        ("1,2", tuple[int]),
        ("1,x", tuple[int, ...]),
        ("0", PositiveInt),
        ("1.0", int),
    ],
)
def test_text_that_spells_no_value_of_the_type_is_refused(text: str, hint: Any) -> None:
    with pytest.raises(UsageError, match=f"must be .*, found .*{text[-1]}"):
        from_text(text, hint)


def test_lists_of_a_configuration_are_tuples() -> None:
    assert made({"answers": ["y", "n"]}).answers == ("y", "n")
    with pytest.raises(UsageError, match="answers must be a tuple of 2 values"):
        made({"answers": ["y"]})


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(
        UsageError, match=r"mode must be .*; option count must be .*; option strict must be "
    ):
        made({"mode": "c", "count": 1.5, "limit": None, "strict": 1})


# --- functions
# --------------------------------------------------------------------------------------------------


@checked
def called(
    source: Any, count: PositiveInt = 1, *rest: int, mode: Literal["a", "b"] = "a", **others: Any
) -> Any:
    """What it was called with."""
    return source, count, rest, mode, others


def test_what_is_admitted_is_passed_on_as_it_is() -> None:
    assert called("s", 2, 3, 4, mode="b", other=5) == ("s", 2, (3, 4), "b", {"other": 5})
    assert called("s") == ("s", 1, (), "a", {})
    seven: Any = np.int64(7)
    assert called("s", count=seven)[1] == 7
    assert (called.__name__, called.__doc__) == ("called", "What it was called with.")


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (["s", 0], {}, r"called\(\): count must be a whole number of at least 1, found 0"),
        (["s"], {"count": np.int64(0)}, "count must be"),
        (["s"], {"count": True}, "count must be"),
        (
            ["s"],
            {"mode": "c", "count": -1},
            "count must be .*; mode must be one of a, b, found 'c'",
        ),
        (["s", "x" * 500], {}, r"found 'x{70,80}\.\.\.$"),
    ],
)
def test_all_arguments_that_are_not_admitted_are_told_and_nothing_is_done(
    arguments: list[Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        called(*arguments, **options)


def test_an_argument_that_is_missing_or_unknown_is_pythons_to_tell() -> None:
    with pytest.raises(TypeError, match="missing"):
        called()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="stric"):
        mmdata.open("nowhere", stric=True)  # type: ignore[call-arg]


def test_a_dataclass_is_held_to_its_types_also_when_it_is_replaced_or_derived_from() -> None:
    @dataclass(frozen=True)
    class Base:
        count: PositiveInt = 1

        def __post_init__(self) -> None:
            check_fields(self)

    @dataclass(frozen=True)
    class Derived(Base):
        mode: Literal["a", "b"] = "a"

    with pytest.raises(UsageError, match="Derived: mode must be one of a, b"):
        Derived(mode="c")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Derived: count must be"):
        replace(Derived(), count=0)


# --- options that are passed on
# -----------------------------------------------------------------------------------


def test_options_that_are_passed_on_are_checked_before_anything_is_touched(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'padd'\. Did you mean 'pad'"):
        mmdata.video.sample_many(["nowhere.mp4"], "uniform:2", padd="none")
    with pytest.raises(UsageError, match="pad must be one of none, repeat"):
        mmdata.video.sample_many(["nowhere.mp4"], "uniform:2", pad="nothing")
    with pytest.raises(UsageError, match="no frame strategy named 'unifrom'"):
        mmdata.video.sample_many(["nowhere.mp4"], "unifrom:2")
    with pytest.raises(UsageError, match="num_image_tokens must be a whole number of at least 0"):
        mmdata.tokenizers.load("chatglm", tmp_path / "nowhere", num_image_tokens=-1)
    with pytest.raises(UsageError, match=r"'legcy'\. Did you mean 'legacy'"):
        mmdata.tokenizers.load("llama2", tmp_path / "nowhere", legcy=True)


def test_check_arguments_takes_what_the_function_takes() -> None:
    check_arguments(called, {"mode": "b"})
    with pytest.raises(UsageError, match="mode must be one of a, b, found 'c'"):
        check_arguments(called, {"mode": "c"})


def test_a_template_refuses_a_frame_strategy_that_is_none() -> None:
    for family in ("cogvlm2_video", "llava_next_video"):
        with pytest.raises(UsageError, match="Did you mean 'uniform'"):
            mmdata.templates.get(family)(tokenizer=small("llama2"), frames="unifrom:8")


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("store", lambda: mmdata.stats(WRONG)),
        ("engine", lambda: mmdata.stats("s", engine=WRONG)),
        ("progress", lambda: mmdata.stats("s", progress=WRONG)),
        ("store", lambda: mmdata.preview(WRONG, "p")),
        ("template", lambda: mmdata.preview("s", "p", template=WRONG)),
        ("store", lambda: mmdata.export(WRONG, "messages", "p")),
        ("format", lambda: mmdata.export("s", WRONG, "p")),
        ("format", lambda: mmdata.convert(WRONG, "a", "b")),
        ("size_of", lambda: mmdata.convert("auto", "a", "b", size_of=WRONG)),
        ("store", lambda: mmdata.to_datasets(WRONG)),
        ("mixture", lambda: Stream(WRONG, WRONG)),
        ("template", lambda: Stream(WRONG, WRONG)),
    ],
)
def test_an_object_of_another_kind_is_refused_where_it_enters(
    name: str, call: Callable[[], object]
) -> None:
    with pytest.raises(UsageError, match=f"{name} must be "):
        call()


def test_a_class_is_no_instance_of_the_protocol_that_it_follows() -> None:
    with pytest.raises(UsageError, match="format must be text or a Format, found <class"):
        mmdata.convert(cast(Any, RecordSource), "a", "b")


def test_a_property_is_not_computed_to_know_the_kind_of_an_object() -> None:
    class Costly:
        def __len__(self) -> int:
            return 0

        def located(self, index: int) -> Any:
            raise AssertionError

        @property
        def fingerprint(self) -> str:
            raise AssertionError

    assert fault_of(Samples, Costly()) is None


def test_every_way_to_resize_has_a_name_that_can_be_asked_for() -> None:
    for name in ("fast", *resizers.names()):
        scaler(8, name)
    with pytest.raises(UsageError, match="Did you mean 'squeeze'"):
        scaler(None, "squeez")
