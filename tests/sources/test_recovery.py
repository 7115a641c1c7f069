"""Broken records among sound ones in JSON:
the sound ones all come out, nothing from inside of a broken one does.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.errors import RecordError
from mmdata.rejects import Reject
from mmdata.sources._json import Reader, records
from mmdata.sources._run import read_strictly
from mmdata.sources._window import Window
from mmdata.sources.record import Record

Layout = Literal["a line", "lines", "printed"]
Damage = tuple[str, str]
BROKEN: Final = "broken"
LAYOUTS: Final[tuple[Layout, ...]] = ("a line", "lines", "printed")
CHUNKS: Final = st.sampled_from([16, 100, 1000, 1 << 18])
TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}:,]|[^\s"\[\]{}:,]+')


@dataclass(frozen=True)
class Files:
    folder: Path

    def read(
        self, text: str | bytes, *, chunk: int = 1 << 18, runs: bool = True, by_line: bool = False
    ) -> list[Any]:
        """What a file of the text holds: its records, :data:`BROKEN` in place of each reject."""
        file = self.folder / "a.json"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        with Window(file, chunk=chunk) as window:
            reader = Reader(window, by_line=by_line, ways=(read_strictly,) if runs else ())
            found = list(chain.from_iterable(reader.runs()))
        return [BROKEN if isinstance(value, RecordError) else value for value in found]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("recovery"))


def laid_out(texts: Sequence[str], layout: Layout, *, array: bool) -> str:
    """Records as they stand in a file; those that are printed are indented by two."""
    joint = {"a line": " ", "lines": "\n", "printed": "\n  "}[layout]
    joint = f",{joint}" if array else joint
    start = {"a line": "", "lines": "\n", "printed": "\n  "}[layout]
    return f"[{start}{joint.join(texts)}\n]" if array else f"{start}{joint.join(texts)}"


def spelt(
    record: Any,
    layout: Layout,
    separators: tuple[str, str] = (", ", ": "),
    *,
    ascii_only: bool = True,
) -> str:
    if layout != "printed":
        return json.dumps(record, separators=separators, ensure_ascii=ascii_only)
    return json.dumps(record, indent=2, ensure_ascii=ascii_only).replace("\n", "\n  ")


def is_sound(text: str) -> bool:
    """The slow oracle for one record:
    strict JSON, each key once, neither NUL nor lone surrogates.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    def no_constant(name: str) -> Any:
        raise ValueError(name)

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
        said = json.dumps(value, ensure_ascii=False).encode()
    except ValueError:
        return False
    return b"\\u0000" not in said.replace(b"\\\\", b"")


def values(words: st.SearchStrategy[str], keys: Sequence[str]) -> st.SearchStrategy[Any]:
    """JSON values: objects have the first of the keys first."""

    def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.lists(inner, min_size=1, max_size=3).map(
            lambda found: dict(zip(keys, found, strict=False))
        )

    return st.recursive(
        st.none() | st.booleans() | st.sampled_from([0, -7, 2.5e-3]) | words,
        lambda inner: (
            st.lists(inner, max_size=3) | objects(inner) | st.lists(objects(inner), max_size=3)
        ),
        max_leaves=8,
    )


def some_records(
    words: st.SearchStrategy[str], keys: Sequence[str]
) -> st.SearchStrategy[list[dict[str, Any]]]:
    fields = st.lists(values(words, keys), min_size=1, max_size=4)
    named = fields.map(lambda found: {f"f{number}": value for number, value in enumerate(found)})
    return st.lists(named, min_size=3, max_size=6).map(
        lambda found: [{"id": number, **value} for number, value in enumerate(found)]
    )


ALIKE: Final = ("id", "x", "f0")
"""Keys of inner objects that look like records."""
OTHER: Final = ("x", "y", "z")
WILD: Final = st.lists(
    st.sampled_from(
        [*'ab"\\\n{}[],: é中', '{"id": 7}', '"}, {"id": 7}, {', "]}", "true", "\U0001f600"]
    ),
    max_size=8,
).map("".join)
"""What is said with all that structure is made of."""
TAME: Final = st.lists(
    st.sampled_from(["a", " the ", "x y", '"', "\\", "\n", "é", " 5 ", "."]), max_size=8
).map("".join)
"""What is said with quotes, and without brackets, commas and colons."""


def inner_tokens(text: str, kind: str) -> list[re.Match[str]]:
    wanted: dict[str, Callable[[str], bool]] = {
        "word": lambda token: token[0] not in '"[]{}:,',
        "string": lambda token: token[0] == '"',
    }
    is_wanted = wanted.get(kind)
    inner = list(TOKEN.finditer(text))[1:-1]
    return [found for found in inner if (is_wanted(found[0]) if is_wanted else found[0][0] in kind)]


@st.composite
def with_wrong_words(draw: st.DrawFn, text: str) -> str:
    """The text of a record of which brackets and quotes are
    as they should be, and something else is not.
    """
    kind = draw(st.sampled_from(["word", ",", ":", ",,", "string", "string", "key twice"]))
    if kind == "key twice":
        return '{"id": 1, ' + text[1:].lstrip()
    places = inner_tokens(text, kind[0] if kind == ",," else kind) or inner_tokens(text, ":")
    found = draw(st.sampled_from(places))
    start, end = found.span()
    if kind == "word" and found[0] != ":":
        words = ["nope", "tru", "-", "1.", ".5", "01", "None", "+1", "-Infinity", "9" * 5000]
        return text[:start] + draw(st.sampled_from(words)) + text[end:]
    if kind == "string" and found[0] != ":":
        spoilt = draw(
            st.sampled_from(["\t", "\n", "\x01", "\\x", "\\u12", "\0", "\\u0000", "\\ud800"])
        )
        return f"{text[: start + 1]}{spoilt}{text[start + 1 :]}"
    return text[:start] + ("" if kind != ",," or found[0] != "," else ",,") + text[end:]


@pytest.mark.slow
@given(st.data(), some_records(WILD, ALIKE), st.sampled_from(LAYOUTS), st.booleans(), CHUNKS)
@settings(max_examples=100, deadline=None)
def test_where_brackets_and_quotes_are_sound_every_broken_record_costs_itself_alone(
    files: Files, data: st.DataObject, sound: list[Any], layout: Layout, array: bool, chunk: int
) -> None:
    separators = data.draw(st.sampled_from([(", ", ": "), (",", ":")]))
    texts = [
        spelt(record, layout, separators, ascii_only=data.draw(st.booleans())) for record in sound
    ]
    expected: list[Any] = list(sound)
    for place in data.draw(st.sets(st.sampled_from(range(len(sound))), min_size=1)):
        broken = data.draw(with_wrong_words(texts[place]))
        if not is_sound(broken):
            texts[place], expected[place] = broken, BROKEN
    whole = laid_out(texts, layout, array=array)

    assert files.read(whole, chunk=chunk) == files.read(whole, chunk=chunk, runs=False) == expected


@st.composite
def with_wrong_brackets(draw: st.DrawFn, text: str, kinds: Sequence[str]) -> str:
    """The text of a record that lacks a bracket or a quote, has one too many, or is cut short."""
    kind = draw(st.sampled_from(kinds))
    if kind == "cut":
        return text[: draw(st.integers(1, len(text) - 1))]
    if kind == "no brace":
        return text[1:]
    tokens = list(TOKEN.finditer(text))
    if kind in {"bracket lost", "bracket opens"}:
        found = draw(st.sampled_from([token for token in tokens[1:] if token[0] in "]}"]))
        return text[: found.start()] + ("" if kind == "bracket lost" else "[") + text[found.end() :]
    found = draw(st.sampled_from(inner_tokens(text, "string")))
    if kind == "quote lost":
        quote = draw(st.sampled_from([found.start(), found.end() - 1]))
        return text[:quote] + text[quote + 1 :]
    inside = draw(st.integers(found.start(), found.end()))
    return f'{text[:inside]}"{text[inside:]}'


KINDS: Final = ["cut", "no brace", "bracket lost", "bracket opens", "quote lost", "quote more"]


@pytest.mark.slow
@given(st.data(), some_records(TAME, OTHER), st.sampled_from(LAYOUTS), CHUNKS)
@settings(max_examples=100, deadline=None)
def test_a_record_whose_brackets_or_quotes_are_wrong_takes_no_other_with_it(
    files: Files, data: st.DataObject, sound: list[Any], layout: Layout, chunk: int
) -> None:
    texts = [spelt(record, layout) for record in sound]
    place = data.draw(st.integers(0, len(sound) - 2))
    texts[place] = data.draw(with_wrong_brackets(texts[place], KINDS))
    whole = laid_out(texts, layout, array=True)

    found = files.read(whole, chunk=chunk)

    if not is_sound(texts[place]):
        assert (
            found
            == files.read(whole, chunk=chunk, runs=False)
            == [*sound[:place], BROKEN, *sound[place + 1 :]]
        )


@pytest.mark.slow
@given(st.data(), some_records(TAME, ALIKE), st.sampled_from(LAYOUTS), CHUNKS)
@settings(max_examples=100, deadline=None)
def test_nothing_inside_of_a_broken_record_comes_out_however_like_a_record_it_looks(
    files: Files, data: st.DataObject, sound: list[Any], layout: Layout, chunk: int
) -> None:
    texts = [spelt(record, layout) for record in sound]
    place = data.draw(st.integers(0, len(sound) - 2))
    texts[place] = data.draw(
        with_wrong_brackets(texts[place], ["no brace", "bracket lost", "quote lost"])
    )
    whole = laid_out(texts, layout, array=True)

    found = files.read(whole, chunk=chunk)

    if not is_sound(texts[place]):
        assert (
            found
            == files.read(whole, chunk=chunk, runs=False)
            == [*sound[:place], BROKEN, *sound[place + 1 :]]
        )


ITEMS: Final = [
    {"id": "0", "k": 1},
    {"id": "1", "s": {"id": 5}},
    {"id": "2", "l": [{"id": 6}, {"id": 7}]},
    {"id": "3"},
]
WRONG: Final = {
    "word": '{"id": "a", "bad": nope, "s": {"id": 5}, "l": [{"id": 6}, {"id": 7}]}',
    "comma lost": '{"id": "a" "s": {"id": 5}, "l": [{"id": 6}, {"id": 7}]}',
    "colon lost": '{"id": "a", "s" {"id": 5}, "l": [{"id": 6}, {"id": 7}]}',
    "quote lost": '{"id": "a, "s": {"id": 5}, "l": [{"id": 6}, {"id": 7}]}',
    "last quote lost": '{"id": "a", "l": [{"id": 6}, {"id": 7}], "t": "b}',
    "quotes not escaped": '{"id": "a", "t": "say "hi", you", "l": [{"id": 6}, {"id": 7}]}',
    "brace lost": '{"id": "a", "s": {"id": 5}, "l": [{"id": 6}, {"id": 7}]',
    "inner brace lost": '{"id": "a", "s": {"id": 5, "l": [{"id": 6}, {"id": 7}]}',
    "brace of an item lost": '{"id": "a", "l": [{"id": 6, {"id": 7}], "s": {"id": 5}}',
    "bracket lost": '{"id": "a", "l": [{"id": 6}, {"id": 7}, "s": {"id": 5}}',
    "first brace lost": '"id": "a", "s": {"id": 5}, "l": [{"id": 6}, {"id": 7}]}',
    "opening bracket lost": '{"id": "a", "l": {"id": 6}, {"id": 7}], "s": {"id": 5}}',
    "bracket too many": '{"id": "a", "l": [{"id": 6}, {"id": 7}]], "s": {"id": 5}}',
    "brace too many": '{"id": "a", "s": {"id": 5}}, "l": [{"id": 6}, {"id": 7}]}',
    "brace too early": '{"id": "a"}, "s": {"id": 5}, "l": [{"id": 6}, {"id": 7}]}',
    "brace doubled": '{{"id": "a", "l": [{"id": 6}, {"id": 7}]}',
    "cut in a string": '{"id": "a", "l": [{"id": 6}, {"id": 7}], "t": "so it',
    "cut behind an item": '{"id": "a", "l": [{"id": 6}',
    "cut behind a key": '{"id": "a", "l": [{"id": 6}, {"id": 7}], "s":',
    "single quotes": "{'id': 'a', 's': {'id': 5}, 'l': [{'id': 6}, {'id': 7}]}",
    "comment": "// so it is",
    "words": "not [found]",
    "many quotes not escaped": '{"id": "a", "t": "a"b", '
    '"l": [{"x": 6}, {"x": 7, "t": "c"d"}, {"x": 8}]}',
    "two faults around an item": '{"id": "a", "t": "a"b", '
    '"l": [{"id": 6}, {"x": "c"d"}, {"x": 8}]}',
    "a nest of its own": '{"id": "a", "l": [[[{"id": 6}], [{"id": 7}]]], '
    '"s": {"s": {"s": {"id": 5}}}, "n": Infinity}',
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", WRONG)
def test_a_broken_record_among_those_it_could_be_taken_for_costs_itself_alone(
    files: Files, kind: str, layout: Layout
) -> None:
    texts = [spelt(item, layout) for item in ITEMS]
    for place in range(4):
        whole = laid_out([*texts[:place], WRONG[kind], *texts[place:]], layout, array=True)
        for chunk in (16, 1 << 18):
            assert files.read(whole, chunk=chunk) == [*ITEMS[:place], BROKEN, *ITEMS[place:]], place


@pytest.mark.parametrize(
    "kind",
    [kind for kind in WRONG if kind not in {"words", "cut behind a key", "cut behind an item"}],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_objects_one_after_the_other_are_no_worse_off_than_an_array(
    files: Files, kind: str, layout: Layout
) -> None:
    texts = [spelt(item, layout) for item in ITEMS]
    for place in range(4):
        whole = laid_out([*texts[:place], WRONG[kind], *texts[place:]], layout, array=False)

        assert files.read(whole) == [*ITEMS[:place], BROKEN, *ITEMS[place:]], place


@pytest.mark.parametrize("layout", ["lines", "printed"])
def test_an_object_on_the_next_line_is_no_value_of_a_record_that_is_cut_behind_a_key(
    files: Files, layout: Layout
) -> None:
    texts = [spelt(item, layout) for item in ITEMS]
    for place in range(4):
        broken = [*texts[:place], '{"id": "a", "s":', *texts[place:]]
        for array in (False, True):
            whole = laid_out(broken, layout, array=array)

            assert files.read(whole) == [*ITEMS[:place], BROKEN, *ITEMS[place:]], (place, array)


@pytest.mark.parametrize("kind", WRONG)
def test_in_json_lines_the_line_is_the_record(tmp_path: Path, kind: str) -> None:
    texts = [json.dumps(item) for item in ITEMS]
    for name, pack in (("a", bytes), ("a.gz", gzip.compress), ("a.zst", zstandard.compress)):
        for place in range(4):
            (tmp_path / name).write_bytes(
                pack("\n".join([*texts[:place], WRONG[kind], *texts[place:]]).encode())
            )

            found = list(records(tmp_path / name))

            assert [item.value if isinstance(item, Record) else BROKEN for item in found] == [
                *ITEMS[:place], BROKEN, *ITEMS[place:],
            ]  # fmt: skip


def test_the_next_record_is_known_by_its_place_where_its_first_key_is_another(files: Files) -> None:
    sound = [{"a": 1}, {"b": [{"c": 1}, {"c": 2}]}, {"d": 3}, {"a": 4}]
    for broken in (
        '{"a": "x"y", "l": [{"b": 1}, {"b": 2}]}',
        '{"a": [1]], "l": [{"b": 1}, {"b": 2}]}',
        '{"a": nope}',
    ):
        for place in range(4):
            texts = [*map(json.dumps, sound[:place]), broken, *map(json.dumps, sound[place:])]

            assert files.read("[" + ", ".join(texts) + "]") == [
                *sound[:place],
                BROKEN,
                *sound[place:],
            ]


def test_between_two_records_with_wrong_quotes_reading_goes_on_at_the_first_key_that_records_have(
    files: Files,
) -> None:
    wrong = '{"id": "a", "t": "x"y"}'

    found = files.read(
        f'[{wrong}, {{"k": 1}}, {{"id": "b"}}, {{"id": "c"}}, {wrong}, {{"id": "d"}}]'
    )

    assert found == [BROKEN, {"id": "b"}, {"id": "c"}, BROKEN, {"id": "d"}]


def test_several_broken_records_on_a_line_are_told_apart(files: Files) -> None:
    sound = [{"id": number, "l": [{"id": 5}, {"id": 6}]} for number in range(len(WRONG) + 1)]
    told = [
        text
        for kind, text in WRONG.items()
        if "cut" not in kind and kind not in {"single quotes", "comment"}
    ]
    texts = chain.from_iterable(zip(map(json.dumps, sound), told, strict=False))

    found = files.read("[" + ", ".join([*texts, json.dumps({"id": "last"})]) + "]")

    assert found[::2] == [*sound[: len(told)], {"id": "last"}]
    assert found[1::2] == [BROKEN] * len(told)


def test_a_short_record_behind_a_broken_one_at_the_end_of_the_file_comes_out(files: Files) -> None:
    assert files.read('[{"a":x},{"a":1}]') == [BROKEN, {"a": 1}]


@pytest.mark.slow
def test_a_file_that_is_cut_shows_nothing_from_inside_of_its_last_record(files: Files) -> None:
    last = {
        "id": "z",
        "l": [{"id": number, "s": {"id": "s"}} for number in range(20)],
        "t": "the end",
    }
    wholes = {layout: [spelt(item, layout) for item in [*ITEMS, last]] for layout in LAYOUTS}
    unindented = "[\n" + ",\n".join(json.dumps(item, indent=0) for item in [*ITEMS, last]) + "\n]"
    for layout, whole in [
        *((layout, laid_out(texts, layout, array=True)) for layout, texts in wholes.items()),
        ("", unindented),
    ]:
        for end in range(whole.index('"id": "z"'), len(whole) - 3):
            found = files.read(whole[:end])
            assert found[:5] == [*ITEMS, BROKEN], (layout, end)
            assert len(found) == 5 or whole[:end].rstrip()[-1] == "]", (layout, end)


def test_brackets_that_do_not_close_end_where_a_record_begins_as_its_file_has_it(
    files: Files,
) -> None:
    broken = '{"id": "a", "l": [{"x": 6}, {"x": 7}'
    texts = [*map(json.dumps, ITEMS[:2]), broken, *map(json.dumps, ITEMS[2:])]

    assert files.read("[" + ", ".join(texts) + "]") == [*ITEMS[:2], BROKEN, *ITEMS[2:]]
    for printed in ("lines", "printed"):
        texts[2] = '{"id": "a", "l": [{"id": 6}, {"id": 7}'
        for chunk in (16, 1 << 18):
            found = files.read(laid_out(texts, printed, array=True), chunk=chunk, runs=False)
            assert found == [*ITEMS[:2], BROKEN, *ITEMS[2:]], chunk


def test_of_several_records_whose_brackets_do_not_close_each_costs_itself(files: Files) -> None:
    sound = [{"id": str(number), "l": [{"x": 1}, {"x": 2}]} for number in range(40)]
    texts = [json.dumps(item) for item in sound]
    for place in (0, 7, 8, 23, 38):
        texts[place] = texts[place][:-2]

    found = files.read("[" + ", ".join(texts) + "]")

    assert found == [
        BROKEN if number in (0, 7, 8, 23, 38) else item for number, item in enumerate(sound)
    ]


def test_how_far_a_record_is_indented_is_known_wherever_the_window_begins(files: Files) -> None:
    broken = '{"id": "a", "l": [{"id": 6}, {"id": 7}'
    for before in range(20, 60):
        sound = [{"id": str(number), "t": "x" * 40} for number in range(2 * before)]
        texts = [spelt(item, "lines") for item in sound]
        whole = laid_out([*texts[:before], broken, *texts[before:]], "printed", array=True)

        assert files.read(whole, chunk=16, runs=False) == [
            *sound[:before],
            BROKEN,
            *sound[before:],
        ], before


def test_lines_that_are_not_indented_are_no_records_of_their_own(files: Files) -> None:
    texts = [json.dumps(item, indent=0) for item in ITEMS]
    texts[2] = texts[2].replace('"l": [', '"n": nope, "l": [')

    assert files.read("[\n" + ",\n".join(texts) + "\n]") == [*ITEMS[:2], BROKEN, ITEMS[3]]


def test_what_follows_on_a_record_costs_itself_but_a_member_shows_that_it_was_closed_too_early(
    files: Files,
) -> None:
    assert files.read('[{"a": 1} so, {"a": 2}]') == [{"a": 1}, BROKEN, {"a": 2}]
    assert files.read('[{"a": 1}}, {"a": 2}]') == [{"a": 1}, BROKEN, {"a": 2}]
    assert files.read('[{"a": 1}, "b": 1}, {"a": 2}]') == [BROKEN, {"a": 2}]
    assert files.read('{"a": 1}, "b": 1}\n{"a": 2}', by_line=True) == [BROKEN, {"a": 2}]
    assert files.read('["b": 1}, {"a": 2}]') == [BROKEN, {"a": 2}]
    assert files.read('[{"a": 1}, "a": 2}, {"a": 3}]') == [{"a": 1}, BROKEN, {"a": 3}]


def test_a_long_broken_record_is_one_reject(files: Files) -> None:
    inner = ", ".join(['{"id": "inner", "n": 1}'] * 20_000)
    whole = f'[{{"id": "0"}}, {{"id": "x", "objects": [{inner}],,}}, {{"id": "1"}}]'

    assert files.read(whole) == [{"id": "0"}, BROKEN, {"id": "1"}]


def test_a_reject_says_where_its_record_begins(tmp_path: Path) -> None:
    text = "[\n" + ",\n".join([*map(json.dumps, ITEMS), '{"id": x}', '{"id": "z"}']) + "]"
    (tmp_path / "a.json").write_text(text)

    start, found = text.index('{"id": x}'), list(records(tmp_path / "a.json"))

    assert [item.number if isinstance(item, Record) else item.record for item in found] == list(
        range(6)
    )
    assert isinstance(found[4], Reject)
    assert found[4].detail.startswith(
        f"line 6, character {start}: Expecting value, 7 characters in"
    )


@pytest.mark.parametrize("chunk", [16, 4096, 1 << 18])
def test_a_reject_far_behind_says_where_its_record_begins_too(tmp_path: Path, chunk: int) -> None:
    texts = [json.dumps({"id": number, "t": "é" * 60}, ensure_ascii=False) for number in range(200)]
    text = ",\n".join([*texts[:150], '{"id": x}', *texts[150:]])
    (tmp_path / "a.json").write_text(f"[{text}]")
    with Window(tmp_path / "a.json", chunk=chunk) as window:
        found = list(chain.from_iterable(Reader(window, by_line=False, ways=()).runs()))

    start = 1 + text.index('{"id": x}')
    assert str(found[150]).startswith(f"line 151, character {start}:")


def test_an_archive_that_is_cut_behind_a_broken_record_says_both(tmp_path: Path) -> None:
    text = "[" + ", ".join(
        [*map(json.dumps, ITEMS), '{"id": x}', *(f'{{"id": "{n * n}"}}' for n in range(40_000))]
    )
    packed = gzip.compress(text.encode())
    (tmp_path / "a.json").write_bytes(packed[: len(packed) // 2])

    rejects = [item for item in records(tmp_path / "a.json") if isinstance(item, Reject)]

    assert [reject.reason.value for reject in rejects] == ["bad_json", "bad_encoding"]
    assert rejects[0].record == 4


def test_an_archive_that_is_cut_anywhere_gives_what_is_whole_and_one_reject_more(
    tmp_path: Path,
) -> None:
    texts = [
        '{"a": "\\u00e9", "b": false}',
        '{"a": x}',
        '{"a":1}',
        '{"a": -1.5e-3, "b": [null, "c"]}',
    ]
    for whole, start in (("[" + ",".join(texts) + "]", 1), ("\n".join(texts), 0)):
        packed = gzip.compress(whole.encode(), compresslevel=0)
        begin = packed.index(whole.encode())
        ends = [start + sum(map(len, texts[: number + 1])) + number for number in range(len(texts))]
        for cut in range(len(whole) + 1):
            (tmp_path / "a.json").write_bytes(packed[: begin + cut])

            found = [
                item.value if isinstance(item, Record) else item.reason.value
                for item in records(tmp_path / "a.json")
            ]

            before = sum(end <= cut for end in ends)
            outcomes = [
                json.loads(text) if number != 1 else "bad_json" for number, text in enumerate(texts)
            ]
            assert found == [*outcomes[:before], "bad_encoding"], (whole, cut)


EDGES: Final = json.dumps(
    {
        "id": "é\n\\",
        "l": [True, None, False, -12, 1.5e-7, 2**70, "\U0001f600"],
        "o": {"x": {}, "y": []},
        "t": '中\u0001"/',
    }
)


@pytest.mark.parametrize(
    "spelling", [EDGES, json.dumps(json.loads(EDGES), ensure_ascii=False, indent=30)]
)
def test_a_sound_record_reads_the_same_whatever_of_it_stands_at_the_windows_edge(
    files: Files, spelling: str
) -> None:
    wanted = json.loads(spelling)
    for before in range(0, 120, 2):
        first = {"id": "a" * before}
        for chunk in (16, 61, 256):
            for runs in (False, True):
                found = files.read(
                    f"[{json.dumps(first)}, {spelling}, {spelling}]", chunk=chunk, runs=runs
                )
                assert found == [first, wanted, wanted], (before, chunk)


def test_a_number_that_is_beyond_what_can_be_kept_only_where_the_window_cuts_it_is_read(
    files: Files,
) -> None:
    number = "1" * 400 + "e-399"
    for chunk in range(300, 420):
        assert files.read(f'[{{"a": {number}}}, {{"a": 1}}]', chunk=chunk, runs=False) == [
            {"a": float(number)},
            {"a": 1},
        ]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1 << 18, 1 << 19])
def test_a_record_larger_than_the_window_reads_the_same_wherever_it_ends(
    files: Files, size: int
) -> None:
    for short in range(0, len(EDGES) + 20, 3):
        large = {"id": "b", "t": "y" * (size - short), "more": json.loads(EDGES)}
        assert files.read(f'[{{"id": "a"}}, {json.dumps(large)}, {{"id": "c"}}]')[1] == large


@pytest.mark.parametrize("blank", ["\x0b", "\x0c\x1c", "\u2003", "\x0b\n\x0b"])
def test_blanks_that_are_none_of_jsons_are_one_reject(tmp_path: Path, blank: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(blank)

    assert [item.reason.value for item in records(file) if isinstance(item, Reject)] == ["bad_json"]
