from __future__ import annotations

import gzip
import json
import random
import tracemalloc
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import to_builtins

from mmdata.errors import RecordError
from mmdata.formats._plain import Plain, read_plainly
from mmdata.rejects import Reject
from mmdata.sources._json import Reader, records
from mmdata.sources._run import Way, read_strictly
from mmdata.sources._window import Window
from mmdata.sources.record import Record

TRICKY = 'q [ { " \\ }] , {"id": 7} 中文 🐱 \n\t end'
GOOD = [
    {
        "id": f"r{number}",
        "conversations": [
            {"from": "human", "value": TRICKY},
            {"from": "gpt", "value": "x" * number},
        ],
    }
    for number in range(6)
]


def read(path: Path, data: bytes | str) -> list[Record | Reject]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(records(path))


def values(items: list[Record | Reject]) -> list[Any]:
    return [item.value if isinstance(item, Record) else item.reason.value for item in items]


def compress(data: bytes, how: str) -> bytes:
    import zstandard

    frames = zstandard.compress(data[:100]) + zstandard.compress(data[100:])
    return {"plain": data, "gzip": gzip.compress(data), "zstandard": frames}[how]


SPELLINGS = {
    "array": json.dumps(GOOD),
    "array in UTF-8": json.dumps(GOOD, ensure_ascii=False),
    "array printed": json.dumps(GOOD, indent=2),
    "array a line a record": "[\n" + ",\n".join(map(json.dumps, GOOD)) + "\n]\n",
    "lines": "\n".join(map(json.dumps, GOOD)),
    "lines with blanks and CRLF": "\r\n\r\n".join(map(json.dumps, GOOD)) + "\r\n\n",
    "objects printed one below another": "\n".join(json.dumps(good, indent=4) for good in GOOD),
    "objects on one line": "".join(map(json.dumps, GOOD)),
    "two arrays": json.dumps(GOOD[:2]) + "\n" + json.dumps(GOOD[2:]),
    "byte order mark": "\ufeff" + json.dumps(GOOD),
    "files joined": "\ufeff" + json.dumps(GOOD[:3]) + "\n\ufeff" + json.dumps(GOOD[3:]),
    "no commas": "[" + " ".join(map(json.dumps, GOOD)) + "]",
    "comma before the end": "[" + ",".join(map(json.dumps, GOOD)) + ",]",
}


@pytest.mark.parametrize("how", ["plain", "gzip", "zstandard"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_the_same_records_reads_the_same(
    tmp_path: Path, spelling: str, how: str
) -> None:
    found = read(tmp_path / "a.txt", compress(SPELLINGS[spelling].encode(), how))

    assert [(item.number, item.id, item.value) for item in found if isinstance(item, Record)] == [
        (number, good["id"], good) for number, good in enumerate(GOOD)
    ]
    assert len(found) == len(GOOD)


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    assert read(tmp_path / "a.json", "") == read(tmp_path / "b.json", " \n") == []


BROKEN = {
    "trailing comma": ('{"id": "r2", "turns": [],}', "bad_json"),
    "quote missing": (
        '{"id": "r2, "conversations": [{"from": "human", "value": "v"}]}',
        "bad_json",
    ),
    "quote too many": (
        '{"id": "r"2", "conversations": [{"from": "human", "value": "v"}]}',
        "bad_json",
    ),
    "brace missing": (
        '{"id": "r2", "conversations": [{"from": "human", "value": "v"}]',
        "bad_json",
    ),
    "bracket missing": (
        '{"id": "r2", "conversations": [{"from": "human", "value": "v"}}',
        "bad_json",
    ),
    "bracket too many": (
        '{"id": "r2", "conversations": [{"from": "human", "value": "v"}]]}',
        "bad_json",
    ),
    "single quotes": ("{'id': 'r2', 'turns': []}", "bad_json"),
    "bad escape": ('{"id": "r2", "turns": "\\x"}', "bad_json"),
    "bare word": ("nonsense", "bad_json"),
    "comment": ("// nothing here", "bad_json"),
    "infinity": ('{"id": "r2", "score": -Infinity}', "bad_json"),
    "infinity behind what starts as records do": (
        '{"id": "r2", "turns": [{"id": "x"}, {"id": "y"}], "n": Infinity}',
        "bad_json",
    ),
    "key twice behind such": (
        '{"id": "r2", "turns": [{"id": "x"}, {"id": "y"}], "n": 1, "n": 1}',
        "bad_json",
    ),
    "control character": ('{"id": "r2", "turns": "a\tb"}', "bad_json"),
    "key twice": ('{"id": "r2", "id": "r2"}', "bad_json"),
    "number too long": ('{"id": "r2", "n": ' + "9" * 5000 + "}", "bad_json"),
    "NUL": ('{"id": "r2", "turns": "\0"}', "bad_encoding"),
    "NUL escaped": ('{"id": "r2", "turns": "\\u0000"}', "bad_encoding"),
    "lone surrogate": ('{"id": "r2", "turns": "\\ud800"}', "bad_encoding"),
    "lone surrogate in a key": ('{"id": "r2", "\\uDC00": 1}', "bad_encoding"),
    "deep": ('{"id": "r2", "turns": ' + "[" * 100_000 + "]" * 100_000 + "}", "too_deep"),
}


@pytest.mark.parametrize(
    "joint", [", ", ",\n", "\n"], ids=["one line", "array a line a record", "lines"]
)
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_record_costs_itself_alone(tmp_path: Path, kind: str, joint: str) -> None:
    text, reason = BROKEN[kind]
    whole = joint.join([*map(json.dumps, GOOD[:2]), text, *map(json.dumps, GOOD[3:])])

    found = read(tmp_path / "a.json", whole if joint == "\n" else f"[{whole}]")

    assert values(found) == [*GOOD[:2], reason, *GOOD[3:]]
    assert isinstance(found[2], Reject)
    assert found[2].record == 2
    assert found[2].detail.startswith("line 1," if joint == ", " else "line 3,")


def test_bytes_that_are_not_utf8_cost_their_record(tmp_path: Path) -> None:
    parts = [json.dumps(good, ensure_ascii=False).encode() for good in GOOD]
    parts[2] = b'{"id": "caf\xe9"}'

    assert values(read(tmp_path / "a.json", b"[" + b",".join(parts) + b"]")) == [
        *GOOD[:2],
        "bad_encoding",
        *GOOD[3:],
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_a_file_in_another_unicode_form_says_so_once(tmp_path: Path, encoding: str) -> None:
    (found,) = read(tmp_path / "a.json", json.dumps(GOOD).encode(encoding))

    assert isinstance(found, Reject)
    assert (found.reason.value, "write it as UTF-8" in found.detail) == ("bad_encoding", True)


def test_a_paired_surrogate_is_a_character(tmp_path: Path) -> None:
    assert values(read(tmp_path / "a.json", '[{"a": "\\ud83d\\ude00 \\\\ud800"}]')) == [
        {"a": "😀 \\ud800"}
    ]


def test_a_file_cut_anywhere_gives_the_records_before_and_one_reject(tmp_path: Path) -> None:
    whole = json.dumps(GOOD)
    ends, position = [], 1
    for good in GOOD:
        position += len(json.dumps(good))
        ends.append(position)
        position += 2

    for cut in range(1, len(whole), 7):
        found = values(read(tmp_path / "a.json", whole[:cut]))

        before = sum(end <= cut for end in ends)
        assert found == [*GOOD[:before], "bad_json"], cut


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.5, 0.67, 0.99])
@pytest.mark.parametrize("how", ["gzip", "zstandard"])
def test_a_cut_archive_gives_what_is_whole_and_one_reject(
    tmp_path: Path, how: str, share: float
) -> None:
    draw = random.Random(0)
    text = "".join(
        json.dumps({"id": str(number), "x": draw.random()}) + "\n" for number in range(30_000)
    )
    packed = compress(text.encode(), how)

    found = read(tmp_path / "a.jsonl", packed[: int(len(packed) * share)])

    assert all(isinstance(item, Record) for item in found[:-1])
    assert isinstance(found[-1], Reject)
    assert "cannot be read to its end" in found[-1].detail
    assert len(found) > 0.8 * share * 30_000 - 5000


@pytest.mark.slow
def test_a_record_of_fifty_megabytes_is_read_and_its_neighbours_too(tmp_path: Path) -> None:
    long = {"id": "long", "text": 'a\\"b [{ ' * 7_000_000}

    found = values(read(tmp_path / "a.jsonl", "\n".join(map(json.dumps, [GOOD[0], long, GOOD[1]]))))

    assert found == [GOOD[0], long, GOOD[1]]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        file = tmp_path / f"{count}.json"
        file.write_text(
            json.dumps([{"id": str(number), "text": "word " * 200} for number in range(count)])
        )
        tracemalloc.start()
        assert sum(1 for _ in records(file)) == count
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(8000) < 1.2 * peak(4000)


@pytest.mark.slow
def test_a_long_broken_record_is_passed_over(tmp_path: Path) -> None:
    broken = '{"id": "x", "objects": [' + ", ".join(['{"id": "inner", "n": 1}'] * 100_000) + "],,}"

    found = values(
        read(tmp_path / "a.json", f"[{json.dumps(GOOD[0])}, {broken}, {json.dumps(GOOD[1])}]")
    )

    assert found[0] == GOOD[0]
    assert found[-1] == GOOD[1]


NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
STRINGS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | STRINGS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STRINGS, inner, max_size=4),
    max_leaves=12,
)


@given(
    st.lists(st.dictionaries(st.sampled_from(["id", "a", "b"]), JSON, min_size=1), max_size=6),
    st.booleans(),
)
@settings(max_examples=60)
def test_what_is_written_is_what_is_read(
    tmp_path_factory: Any, objects: list[Any], ascii_only: bool
) -> None:
    file = tmp_path_factory.mktemp("json") / "a.json"
    lines = "\n".join(json.dumps(item, ensure_ascii=ascii_only) for item in objects)

    assert values(read(file, json.dumps(objects, ensure_ascii=ascii_only))) == objects
    assert values(read(file, lines)) == objects


@pytest.mark.slow
@given(st.data())
@settings(max_examples=300)
def test_damage_leaves_every_record_before_it_and_the_same_answer_twice(
    tmp_path_factory: Any, data: st.DataObject
) -> None:
    spelling = data.draw(
        st.sampled_from([name for name in SPELLINGS if "CRLF" not in name and "mark" not in name])
    )
    whole = SPELLINGS[spelling].encode()
    start = data.draw(st.integers(0, len(whole) - 1))
    length = data.draw(st.integers(0, 30))
    garbage = data.draw(
        st.binary(max_size=30) | st.sampled_from([b'"', b"{", b"}", b"[", b"]", b",", b"\\", b"\n"])
    )
    mangled = whole[:start] + garbage + whole[start + length :]
    file = tmp_path_factory.mktemp("json") / "a.json"

    first, second = read(file, mangled), read(file, mangled)

    untouched = sum(position <= start for position in _ends(whole))
    assert values(first)[:untouched] == GOOD[:untouched]
    assert first == second
    assert [item.number if isinstance(item, Record) else item.record for item in first] == list(
        range(len(first))
    )


WAYS: list[tuple[Way, ...]] = [(read_strictly,), (read_plainly, read_strictly)]


def _read_by(path: Path, *ways: Way, by_line: bool) -> list[Any]:
    with Window(path) as window:
        found = list(chain.from_iterable(Reader(window, by_line=by_line, ways=ways).runs()))
    return [
        (value.reason, str(value)) if isinstance(value, RecordError) else to_builtins(value)
        for value in found
    ]


SAID = '"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "I."}]'
SLY = {
    "key of a turn twice": '{"id": "s", "conversations": '
    '[{"from": "human", "from": "human", "value": "Who?"}]}',
    "turns twice": '{"id": "s", ' + SAID + ", " + SAID + "}",
    "two fields without a home": '{"data_source": "d", "model": "", "id": "s", ' + SAID + "}",
    "id a number": '{"id": 1.0, ' + SAID + "}",
    "no image": '{"image": null, ' + SAID + "}",
    "quotes in what is said": r'{"image": "\"", "conversations": '
    r'[{"from": "human", "value": "\u0022 \\"}]}',
    "NUL in what is said": r'{"id": "s", "conversations": [{"from": "human", "value": "\u0000"}]}',
    "NUL in an id": r'{"id": "\u0000", ' + SAID + "}",
    "surrogate in an id": r'{"id": "\ud83d", ' + SAID + "}",
    "unknown speaker": '{"id": "s", "conversations": [{"from": "system", "value": "Who?"}]}',
    "key twice, once spelled with an escape": r'{"id": "s", "\u0069d": "t"}',
    "key twice, and as many quotes in a string": r'{"id": "s", "id": "\"\""}',
    "key twice, and backslashes before a quote": r'{"id": "s", "id": "\\\\"}',
    "key twice, deep down": r'{"id": "s", "conversations": [{"a": {"b": 1, "b": 1}}]}',
    "NUL after an escaped backslash": r'{"id": "s", "a": "\\\u0000"}',
    "no NUL but its spelling": r'{"id": "s", "a": "\\u0000"}',
    "control character escaped": r'{"id": "s", "a": "\u0001"}',
    "paired surrogates": r'{"id": "s", "a": "\ud83d\ude00"}',
    "number beyond floats": '{"id": "s", "a": 1e999}',
    "long number": '{"id": "s", "a": 123456789012345678901234567890}',
    "no object": "[1, 2]",
    "nothing": "{}",
}


@pytest.mark.parametrize("by_line", [False, True])
@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("kind", SLY)
def test_records_read_in_runs_are_those_read_one_by_one(
    tmp_path: Path, kind: str, ways: tuple[Way, ...], by_line: bool
) -> None:
    lines = [*map(json.dumps, GOOD[:3]), SLY[kind], *map(json.dumps, GOOD[3:])]
    (tmp_path / "a.json").write_text("\n".join(lines) if by_line else "[" + ",\n".join(lines) + "]")

    found = _read_by(tmp_path / "a.json", *ways, by_line=by_line)

    assert found == _read_by(tmp_path / "a.json", by_line=by_line)
    assert found[:3] + found[-3:] == GOOD


@pytest.mark.parametrize("ways", WAYS)
def test_an_array_among_objects_is_opened_however_it_is_read(
    tmp_path: Path, ways: tuple[Way, ...]
) -> None:
    (tmp_path / "a.json").write_text(
        "\n".join(json.dumps(found, indent=1) for found in (*GOOD[:3], GOOD[3:], GOOD[0]))
    )

    assert _read_by(tmp_path / "a.json", *ways, by_line=False) == [*GOOD, GOOD[0]]


@pytest.mark.slow
@given(st.data())
@settings(max_examples=300)
def test_a_damaged_file_read_in_runs_is_one_read_value_by_value(
    tmp_path_factory: Any, data: st.DataObject
) -> None:
    spelling = data.draw(st.sampled_from(sorted(SPELLINGS)))
    whole = SPELLINGS[spelling].encode()
    start = data.draw(st.integers(0, len(whole)))
    garbage = data.draw(
        st.binary(max_size=8)
        | st.sampled_from([b'"', b'"a":1,', b"\\", b"]", b"},{", b",,", b"\n"])
    )
    file = tmp_path_factory.mktemp("json") / "a.json"
    file.write_bytes(whole[:start] + garbage + whole[start + data.draw(st.integers(0, 20)) :])
    by_line = data.draw(st.booleans())

    one_by_one = _read_by(file, by_line=by_line)
    assert [_read_by(file, *ways, by_line=by_line) for ways in WAYS] == [one_by_one, one_by_one]


@pytest.mark.parametrize("text", ["a", "中文", '"', "\\", '\\"', "\n", ""])
@pytest.mark.parametrize("field", ["id", "image", "video", "model", "data_source"])
def test_a_plain_record_is_read_as_one(field: str, text: str) -> None:
    record = {
        "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "I."}],
        field: text,
    }
    data = json.dumps(record).encode()

    for in_array, spelling in ((True, data + b", " + data), (False, data + b"\n" + data)):
        plain = read_plainly(spelling, in_array)

        assert {type(each) for each in plain} == {Plain}
        assert to_builtins(plain) == [record, record]


def _ends(whole: bytes) -> list[int]:
    """Return where the good records of a spelling end: just after the brace that closes each."""
    decoder, text, position, ends = json.JSONDecoder(), whole.decode(), 0, []
    for _ in GOOD:
        position = text.index("{", position)
        _, position = decoder.raw_decode(text, position)
        ends.append(len(text[:position].encode()))
    return ends
