from __future__ import annotations

import io
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pictures

from mmdata.errors import UsageError
from mmdata.mixture import NearDuplicates, find_near_duplicates
from mmdata.mixture.near_duplicates import (
    NearKind,
    _comparable,
    _group,
    _Likeness,
    text_signatures,
)
from mmdata.schema import (
    Conversation,
    Image,
    Media,
    Region,
    Time,
    ToolCall,
    Video,
    assistant,
    replace,
    user,
)
from mmdata.store import Store
from tests.conversations import conversations, plain
from tests.stores import write


def words(seed: int, count: int = 200) -> list[str]:
    """So many words, which no other seed shares."""
    chance = random.Random(seed)
    return [f"w{seed}x{chance.randrange(10**6)}" for _ in range(count)]


def saying(name: str, text: str, *media: Media) -> Conversation:
    return Conversation(name, (user("Go on."), assistant(text)), media)


def scene(seed: int) -> Pictures.Image:
    """A picture of some large shapes."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Pictures.fromarray(rough).resize((320, 320), Pictures.Resampling.BICUBIC)


def file_of(picture: Pictures.Image, kind: str = "PNG", **options: int) -> Media:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return Media("image", bytes=out.getvalue())


def groups_of(found: NearDuplicates) -> list[list[int]]:
    """The rows of each group of two and more."""
    rows = range(len(found.labels))
    labels = found.labels.tolist()
    return [
        [row for row in rows if labels[row] == first]
        for first in sorted(set(labels))
        if labels.count(first) > 1
    ]


def near(path: Path, rows: Sequence[Conversation], kind: NearKind = "texts") -> NearDuplicates:
    return find_near_duplicates(write(path, rows), kind, workers=1)


@settings(max_examples=12, deadline=None)
@given(rows=st.lists(conversations(), min_size=1, max_size=5), seed=st.integers())
def test_rows_that_say_the_same_are_always_one_group(
    rows: list[Conversation], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    twice = [replace(row, id=f"{n}") for n, row in enumerate([*rows, *rows])]
    store = write(tmp_path_factory.mktemp("near") / "store", twice)

    labels = find_near_duplicates(store, "texts", seed=seed).labels

    assert labels[len(rows) :].tolist() == labels[: len(rows)].tolist()
    assert all(label <= row for row, label in enumerate(labels.tolist()))


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.8, 1.0])
def test_rows_that_share_no_words_are_never_in_one(similarity: float, tmp_path: Path) -> None:
    rows = [
        Conversation(f"{n}", (user(" ".join(words(n, 30))), assistant(" ".join(words(n + 300)))))
        for n in range(200)
    ]

    found = find_near_duplicates(write(tmp_path / "store", rows), "texts", similarity=similarity)

    assert groups_of(found) == []
    assert found.groups[0].groups == found.groups[0].duplicates == 0


def test_a_long_text_with_one_word_changed_is_near_and_one_with_many_is_not(
    tmp_path: Path,
) -> None:
    some = words(1)
    one_changed = [*some[:90], "else", *some[91:]]
    every_tenth = [word if n % 10 else "else" for n, word in enumerate(some)]
    shouted = [word.upper() for word in some]

    rows = [saying(f"{n}", " ".join(text)) for n, text in enumerate(
        [some, one_changed, every_tenth, shouted]
    )]  # fmt: skip

    assert groups_of(near(tmp_path / "store", rows)) == [[0, 1, 3]]


def test_what_is_as_alike_as_it_takes_is_mostly_found_and_what_is_less_so_is_not(
    tmp_path: Path,
) -> None:
    def pair(seed: int, changed: int) -> list[Conversation]:
        some = words(seed)
        # A word near the end changes five runs of 196 at most: J = (196 - 5k) / (196 + 5k).
        other = [f"o{n}" if n % 5 == 2 and n < 5 * changed else w for n, w in enumerate(some)]
        return [
            Conversation(f"{seed}-{n}", (user(""), assistant(" ".join(text))))
            for n, text in enumerate([some, other])
        ]

    close = [row for seed in range(40) for row in pair(seed, 2)]  # J = 0.90
    far = [row for seed in range(40, 80) for row in pair(seed, 8)]  # J = 0.66

    found = groups_of(near(tmp_path / "store", [*close, *far]))

    assert found == [[2 * n, 2 * n + 1] for n in range(40)]


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_signatures_are_those_of_rows_whatever_batches_they_come_in(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = data.draw(st.lists(conversations(), min_size=2, max_size=6))
    rows = [replace(row, id=f"{n}") for n, row in enumerate(rows)]
    cut = data.draw(st.integers(0, len(rows)))
    store = write(tmp_path_factory.mktemp("near") / "store", rows)
    whole = pa.concat_batches(list(store.batches()))

    both = [text_signatures(whole[:cut], 7), text_signatures(whole[cut:], 7)]

    assert np.array_equal(np.concatenate(both), text_signatures(whole, 7))


def test_groups_do_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    chance = random.Random(0)
    rows = []
    for seed in range(12):
        some = words(seed)
        for copy in range(3):
            some = [*some[: 40 * copy], "else", *some[40 * copy + 1 :]]
            rows.append(saying(f"{seed}-{copy}", " ".join(some)))

    def named_groups(path: str) -> set[frozenset[str]]:
        found = near(tmp_path / path, rows)
        return {frozenset(rows[row].id for row in group) for group in groups_of(found)}

    first = named_groups("a")
    chance.shuffle(rows)

    assert first == named_groups("b")
    assert first == {frozenset(f"{seed}-{copy}" for copy in range(3)) for seed in range(12)}


def test_a_chain_of_texts_each_near_the_next_is_one_group(tmp_path: Path) -> None:
    some = words(0)
    rows = []
    for step in range(12):
        some = [f"s{n}" if n // 16 == step and n % 16 == 3 else w for n, w in enumerate(some)]
        rows.append(saying(f"{step}", " ".join(some)))

    assert groups_of(near(tmp_path / "store", rows)) == [list(range(12))]


def test_texts_of_scripts_without_blanks_are_compared_too(tmp_path: Path) -> None:
    chance = random.Random(0)
    some = [chr(chance.randrange(0x4E00, 0x9FFF)) for _ in range(200)]
    other = [*some[:50], "好", *some[51:]]

    rows = [saying("a", "".join(some)), saying("b", "".join(other)), saying("c", "你好")]

    assert groups_of(near(tmp_path / "store", rows)) == [[0, 1]]


def test_a_picture_resized_and_encoded_anew_looks_alike_and_another_does_not(
    tmp_path: Path,
) -> None:
    pictures = [
        file_of(scene(1)),
        file_of(scene(1).resize((200, 200))),
        file_of(scene(1), "JPEG", quality=30),
        file_of(scene(1).resize((500, 400)), "WEBP", quality=50),
        *(file_of(scene(seed)) for seed in range(2, 12)),
    ]
    rows = [saying(f"{n}", "A picture.", media) for n, media in enumerate(pictures)]

    found = near(tmp_path / "store", rows, "rows")

    assert groups_of(found) == [[0, 1, 2, 3]]
    texts, alike, both = found.groups
    assert (texts.members, alike.members, both.members) == (14, 4, 4)
    assert alike.examples == (("0 [0]", "1 [0]", "2 [0]", "3 [0]"),)
    assert both.examples == (("0", "1", "2", "3"),)


def test_some_rows_are_compared_among_themselves(tmp_path: Path) -> None:
    alike, other = file_of(scene(1)), file_of(scene(2))
    rows = [saying(f"{n}", "Yes.", medium) for n, medium in enumerate([alike, other] * 3)]
    store = write(tmp_path / "store", rows)

    found = find_near_duplicates(store, "rows", rows=np.array([1, 2, 3, 4]), workers=1)

    assert found.labels.tolist() == [0, 1, 0, 1]
    assert found.groups[2].examples == (("1", "3"), ("2", "4"))
    assert found.groups[1].members == 0  # each picture is one, however many rows show it


BOX = (0.0, 0.0, 0.5, 0.5)
BASE = Conversation(
    "base",
    (
        user(Image(0), Video(1), "Where?"),
        assistant("Here ", Region("dog", (BOX,)), Time(2.0, media=1), "then."),
    ),
    (Media("image", "a.png"), Media("video", "a.mp4")),
)
OTHERS = {
    "the same": (BASE, True),
    "another place of the file": (
        replace(BASE, media=(Media("image", "b.png"), BASE.media[1])),
        False,
    ),
    "another box": (
        replace(
            BASE,
            messages=(
                BASE.messages[0],
                assistant(
                    "Here ", Region("dog", ((0.0, 0.0, 0.5, 0.6),)), Time(2.0, media=1), "then."
                ),
            ),
        ),
        False,
    ),
    "another time": (
        replace(
            BASE,
            messages=(
                BASE.messages[0],
                assistant("Here ", Region("dog", (BOX,)), Time(3.0, media=1), "then."),
            ),
        ),
        False,
    ),
    "another judgement": (replace(BASE, desirable=True), False),
    "other tools": (replace(BASE, tools='[{"name": "look"}]'), False),
    "another worse ending": (replace(BASE, rejected=(assistant("Never."),)), False),
    "another call": (
        replace(BASE, messages=(*BASE.messages, assistant(ToolCall("look", '{"at": 1}')))),
        False,
    ),
    "another source": (replace(BASE, source="elsewhere", split="val", extra={"a": 1}), True),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", OTHERS)
def test_rows_are_near_only_where_all_but_texts_and_pictures_is_the_same(
    what: str, tmp_path: Path
) -> None:
    other, is_near = OTHERS[what]

    found = near(tmp_path / "store", [BASE, replace(other, id="other")], "rows")

    assert groups_of(found) == ([[0, 1]] if is_near else [])


def test_a_picture_that_cannot_be_decoded_is_counted_and_like_no_other(tmp_path: Path) -> None:
    broken = [Media("image", bytes=b"no picture"), Media("image", "missing.png")]
    rows = [saying(f"{n}", "A picture.", media) for n, media in enumerate([*broken, broken[0]])]

    found = near(tmp_path / "store", rows, "rows")

    assert (found.groups[1].unreadable, found.groups[1].members) == (2, 0)
    assert found.groups[1].fault
    assert groups_of(found) == [[0, 2]]


def test_texts_alone_are_compared_without_a_look_at_pictures(tmp_path: Path) -> None:
    rows = [saying(f"{n}", "A picture.", Media("image", f"{n}.png")) for n in range(2)]

    found = near(tmp_path / "store", rows, "texts")

    assert [each.kind for each in found.groups] == ["texts"]
    assert groups_of(found) == [[0, 1]]


def test_many_rows_that_say_the_same_cost_no_comparison_of_each_with_each(tmp_path: Path) -> None:
    rows = [replace(plain(0), id=f"{n}") for n in range(3000)]

    [group] = near(tmp_path / "store", rows).groups

    assert (group.groups, group.members, group.duplicates) == (1, 3000, 2999)
    assert group.examples == (("0", "1", "2", "3"),)


def of_one_template(seed: int, own: int) -> list[str]:
    """The words of a template of 200, so many of them its own at the end."""
    return [*words(0)[: 200 - own], *words(seed)[:own]]


def test_the_number_of_workers_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmdata.mixture.near_duplicates._FEW", 0)
    rows = [saying(f"{n}", " ".join(of_one_template(n % 40 + 1, 20 * (n % 7)))) for n in range(90)]
    store = write(tmp_path / "store", rows)
    some = np.arange(0, 90, 2)

    one, three = (
        find_near_duplicates(store, "texts", rows=some, workers=workers) for workers in (1, 3)
    )

    assert one.labels.tolist() == three.labels.tolist()
    assert one.groups == three.groups
    assert one.groups[0].members


def test_of_very_many_texts_of_one_template_those_nearly_the_same_are_found_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmdata.mixture.near_duplicates._MOST_COMPARED", 20)
    monkeypatch.setattr("mmdata.mixture.near_duplicates._AROUND", 4)
    rows = []
    for seed in range(1, 151):
        some = of_one_template(seed, 40)
        rows += [saying(f"{seed}", " ".join(some)), saying(f"{seed}'", " ".join([*some, "else"]))]

    [group] = near(tmp_path / "store", rows).groups

    assert (group.groups, group.members) == (150, 300)
    assert group.crowded > 150
    assert any("not all were compared" in line for _, line in group.lines())


def test_in_a_very_large_bucket_those_with_another_band_in_common_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mmdata.mixture.near_duplicates._MOST_COMPARED", 900)
    monkeypatch.setattr("mmdata.mixture.near_duplicates._AROUND", 20)
    chance = np.random.default_rng(0)
    bucket, whole = chance.permutation(1000), np.arange(1000, dtype=np.uint64)
    other = chance.integers(0, 300, 1000).astype(np.uint64)  # each is that of some three

    compared = list(_comparable(bucket, other, whole))

    pairs = {(one, two) for some in compared for one in some for two in some}
    alike = zip(*np.nonzero(other[:, None] == other[None]), strict=True)
    assert set(alike) <= pairs
    assert len(pairs) <= 1000 * 4 * 20


def test_texts_of_one_template_are_all_compared_where_they_are_fewer(tmp_path: Path) -> None:
    rows = [saying(f"{seed}", " ".join(of_one_template(seed, 30))) for seed in range(1, 150)]

    [group] = near(tmp_path / "store", rows).groups

    assert group.crowded == 0


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_groups_are_those_that_comparing_each_with_each_finds(data: st.DataObject) -> None:
    chance = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    bits = chance.integers(0, 2, (data.draw(st.integers(1, 5)), 64), np.uint8)
    hashes = bits[chance.integers(0, len(bits), data.draw(st.integers(1, 40)))]
    hashes ^= chance.random(hashes.shape) < data.draw(st.sampled_from([0.0, 0.02, 0.06]))

    found = _group(hashes, _Likeness(60, 5)).labels

    differ = (hashes[:, None] != hashes[None]).sum(axis=2)  # (hashes, hashes)
    joined = differ <= 4
    for _ in hashes:  # each turn joins those that are twice as many steps apart
        joined = joined @ joined
    assert found.tolist() == joined.argmax(axis=1).tolist()


def test_an_empty_store_has_no_groups(tmp_path: Path) -> None:
    found = near(tmp_path / "store", [], "rows")

    assert [each.members for each in found.groups] == [0, 0, 0]


def test_an_unknown_kind_is_refused_with_the_near_miss(tmp_path: Path) -> None:
    store: Store = write(tmp_path / "store", [plain(0)])

    with pytest.raises(UsageError, match="Did you mean 'texts'"):
        find_near_duplicates(store, "text")  # type: ignore[arg-type]
