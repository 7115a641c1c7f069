"""Annotations of COCO's instances that are kept as they are spelt, beside what reading makes."""

import json
import random
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from mmdata.formats._coco_verbatim import Instance, Instances, read_instances
from mmdata.formats._meaning import may_change_meaning
from mmdata.formats.coco import Coco
from mmdata.sources._run import read_strictly
from mmdata.store.encode import encode_json_lines

PLAIN = (
    '{"segmentation":[[1.5,20,0.25]],"area":331.9523191199162,"iscrowd":0,"image_id":3,'
    '"bbox":[1,2.5,30,4.0],"category_id":8,"id":7}'
)
DIGITS = st.text("0123456789", min_size=0, max_size=20)
WHOLE = st.one_of(st.sampled_from(["", "0", "1", "10"]), DIGITS)
SPELLED = st.builds(
    lambda sign, whole, point, fraction, exponent: sign + whole + point + fraction + exponent,
    st.sampled_from(["", "-", "+"]),
    WHOLE,
    st.sampled_from(["", "."]),
    st.one_of(st.sampled_from(["", "0", "50", "00001"]), DIGITS),
    st.sampled_from(["", "", "", "e5", "E5", "e-07", "E+2", "e400"]),
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = st.one_of(
    SPELLED,
    FLOATS.map(repr),
    FLOATS.map(lambda value: f"{value:.17g}"),
    st.floats(-1000, 1000).map(lambda value: f"{value:.2f}"),
    st.integers().map(str),
    st.integers(-(10**25), 10**25).map(str),
)
ODD = st.sampled_from(
    ["NaN", "Infinity", "null", "true", '""', '"a e1b"', '"\\u0065"', "{}", "[{},{}]", '{"id":1}',
     '[{"size":[1,2]}]', "[" * 40 + "]" * 40, "[1,[1,[1,1]],1]", "[1 2]", "[1,]", "tr ue", ""]
)  # fmt: skip
VALUES = st.one_of(
    NUMBERS, st.lists(NUMBERS, max_size=6).map(lambda some: f"[{','.join(some)}]"), ODD
)
BLANK = st.sampled_from(["", "", " ", "\n", "\t ", "\r\n", "\u00a0"])
FIELDS = ("segmentation", "area", "iscrowd", "image_id", "bbox", "category_id", "id")


@st.composite
def annotations(draw: st.DrawFn) -> str:
    """Draw an annotation that is COCO's but for a field or two."""
    fields = json.loads(PLAIN)
    spelled = {name: json.dumps(value) for name, value in fields.items()}
    spelled["segmentation"] = draw(VALUES)
    spelled["area"] = draw(NUMBERS)
    if draw(st.booleans()):
        spelled[draw(st.sampled_from(FIELDS))] = draw(VALUES)
    members = list(spelled.items())
    if draw(st.integers(0, 4)) == 0:
        members.pop(draw(st.integers(0, 6)))
    if draw(st.integers(0, 4)) == 0:
        odd = st.sampled_from(
            [*FIELDS, "image_ id", "image\\u005fid", "caption", "start", "é", "e5"]
        )
        members.insert(draw(st.integers(0, 6)), (draw(odd), draw(VALUES)))
    comma, colon = draw(BLANK), draw(BLANK)
    spelled_members = [f'"{name}"{colon}:{colon}{value}' for name, value in members]
    return "{" + f",{comma}".join(spelled_members) + "}"


@given(st.lists(annotations(), min_size=1, max_size=3), st.sampled_from([",", ", ", ",\n", " "]))
@example([PLAIN, PLAIN], ", ")
@example([PLAIN.replace("1.5", "1.50")], ",")
@example([PLAIN.replace("1.5", "1.00")], ",")
@example([PLAIN.replace("1.5", "1e3")], ",")
@example([PLAIN.replace("1.5", "1E3")], ",")
@example([PLAIN.replace("1.5", "-0")], ",")
@example([PLAIN.replace("1.5", "-0.0")], ",")
@example([PLAIN.replace("1.5", "0.00001")], ",")
@example([PLAIN.replace("1.5", "0.10000000000000001")], ",")
@example([PLAIN.replace("1.5", "10000000000000000.0")], ",")
@example([PLAIN.replace('"id":7', '"id":7,"id":7')], ",")
@example([PLAIN.replace('"id"', '"image_ id"')], ",")
@example([PLAIN.replace('"id"', '"\\u0069d"')], ",")
@example([PLAIN.replace("1.5", "[" * 20 + "]" * 20)], ",")
def test_what_is_kept_as_it_stands_is_what_reading_and_writing_makes_of_it(
    texts: list[str], comma: str
) -> None:
    data = comma.join(texts).encode()

    kept = read_instances(data, True)

    if isinstance(kept, Instances):
        read = read_strictly(data, True)
        assert list(kept) == read
        assert kept[0] == read[0]
        assert kept[-1] == read[-1]
        assert kept.lines == encode_json_lines(read)
        assert [one.image_id for one in kept.found] == [one["image_id"] for one in read]
        assert [one.category_id for one in kept.found] == [one["category_id"] for one in read]
        assert [list(one.bbox) for one in kept.found] == [one["bbox"] for one in read]
        assert [one.iscrowd or 0 for one in kept.found] == [one.get("iscrowd", 0) for one in read]
    else:
        assert not kept


def test_annotations_of_deep_brackets_are_not_kept_as_they_stand() -> None:
    deep = PLAIN.replace("1.5", "[" * 200 + "]" * 200)

    assert isinstance(read_instances(PLAIN.encode(), True), Instances)
    assert not read_instances(deep.encode(), True)
    assert not read_instances(f"{PLAIN},{deep}".encode(), True)


@given(st.lists(NUMBERS, min_size=1, max_size=8))
@example(["1.0", "-0.0", "10.0", "0.5", "100", "-7", "0"])
@example(["0.1234567890123456", "123456789012345.5", "0.0001", "9007199254740993"])
def test_numbers_are_kept_only_where_they_are_spelt_as_they_would_be_written(
    numbers: list[str],
) -> None:
    data = PLAIN.replace("1.5,20,0.25", ",".join(numbers)).encode()

    kept = read_instances(data, True)

    if isinstance(kept, Instances):
        assert kept.lines == encode_json_lines([json.loads(data)])


def test_what_files_of_instances_hold_is_kept_as_it_stands() -> None:
    chance = random.Random(0)
    some = [
        {
            "segmentation": [[round(chance.uniform(0, 640), 2) for _ in range(20)]],
            "area": chance.uniform(0, 1e5),
            "iscrowd": 0,
            "image_id": number,
            "bbox": [round(chance.uniform(1, 300), 2) for _ in range(4)],
            "category_id": 10 * number,
            "id": number,
        }
        for number in range(200)
    ]
    some.append({name: value for name, value in some[0].items() if name != "iscrowd"})  # LVIS

    for spelled in (json.dumps(some), json.dumps(some, indent=1)):
        kept = read_instances(spelled.strip("[]").encode(), True)

        assert isinstance(kept, Instances)
        assert list(kept) == some


def test_no_field_that_may_be_kept_changes_what_an_annotation_means() -> None:
    fields = dict.fromkeys(Instance.__struct_fields__, 1)

    assert not may_change_meaning([fields], Coco.harmless_fields)


def test_annotations_under_another_key_are_the_same_rejects_however_they_are_read(
    tmp_path: Path,
) -> None:
    file = tmp_path / "instances.json"
    for blank in ("", "\\u0020"):  # an escape is read the slow way
        odd = PLAIN.replace('"id":7', f'"id":"{blank}"') if blank else PLAIN
        file.write_text('{"images":[' + ",".join([odd] * 2000) + '],"annotations":[]}')

        found = [item for run in Coco().runs([file]) for item in run]

        assert len(found) == 2000
        assert {item.detail for item in found} == {  # type: ignore[union-attr]
            "in 'images': an annotation outside of 'annotations', after something broken"
        }
