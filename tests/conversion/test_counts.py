"""What a conversion counts of its rows: what went to ``extra``, and media one would not expect."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import mmdata
from mmdata.cli import cli
from mmdata.conversion import convert
from mmdata.conversion.account import NOTHING, count_batch
from mmdata.schema import Conversation, Image, Media, Oddity, Part, Text, Video, assistant, user
from mmdata.store.batch import ConversationBatch
from tests.source_files import record, write_images, write_records
from tests.video.clips import clip
from tests.video.test_source import with_cover

NAMES = st.sampled_from(["a.jpg", "b.jpg"])


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """Return a row of some media, some of them placed, that keeps some fields."""
    paths = draw(st.lists(NAMES, max_size=4))
    placed = draw(st.lists(st.sampled_from(range(4)), max_size=4))
    parts: list[Part] = [Text("What?"), *[Image(n) for n in placed if n < len(paths)]]
    worse = [Image(n) for n in draw(st.lists(st.just(0), max_size=1)) if n < len(paths)]
    rejected = (assistant("No.", *worse),) if draw(st.booleans()) else None
    messages = (user(*parts), assistant("That."))
    extra: dict[str, Any] = draw(
        st.dictionaries(
            st.sampled_from(["licence", "name"]), st.sampled_from([1, [2], {"x": None}]), max_size=2
        )
    )
    if draw(st.booleans()):
        extra["turns"] = draw(
            st.sampled_from(
                [{"1": {"weather": 3}}, {"0": {"a": 1, "b": 2}, "1": {"a": 1}}, "mine", []]
            )
        )
    kinds: list[tuple[Oddity, ...] | None] = [None, ("trimmed",), ("fields", "trimmed")]
    odd = draw(st.sampled_from(kinds))
    media: tuple[Media, ...] = tuple(Media("image", path) for path in paths)
    if odd is not None:
        media = (*media, Media("video", "c.mp4", oddities=odd))
    return Conversation("x", messages, media, "s", "train", extra, rejected=rejected)


def counted_one_by_one(rows: list[Conversation]) -> dict[str, Any]:
    extra: Counter[str] = Counter()
    oddities: Counter[str] = Counter()
    unplaced = doubled = 0
    for row in rows:
        for key, value in row.extra.items():
            if key == "turns" and isinstance(value, dict):
                extra.update({f"turns.{name}" for fields in value.values() for name in fields})
            else:
                extra[key] += 1
        said = (*row.messages, *(row.rejected or ()))
        placed = {p.media for m in said for p in m.content if isinstance(p, (Image, Video))}
        unplaced += len(row.media) - len(placed)
        doubled += len(row.media) - len({medium.path for medium in row.media})
        oddities.update(kind for medium in row.media for kind in medium.oddities or ())
    with_media = sum(bool(row.media) for row in rows)
    return {
        "extra": dict(extra),
        "with_media": with_media,
        "without_media": len(rows) - with_media,
        "unplaced": unplaced,
        "doubled": doubled,
        "oddities": dict(oddities),
    }


@given(st.lists(conversations(), max_size=6), st.integers(0, 6))
def test_the_counts_of_batches_are_those_of_their_rows_whatever_the_batches(
    rows: list[Conversation], cut: int
) -> None:
    batch = ConversationBatch.from_conversations(rows)
    pieces = [batch.slice(0, min(cut, len(rows))), batch.slice(min(cut, len(rows)), len(rows))]

    whole, sliced = count_batch(batch), NOTHING + count_batch(pieces[0]) + count_batch(pieces[1])

    assert whole == sliced
    wanted = counted_one_by_one(rows)
    assert {name: getattr(whole, name) for name in wanted} == wanted


def odd_source(folder: Path) -> Path:
    write_images(folder, ["images/0.jpg", "images/1.jpg"])
    text = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So.", "weather": 3}]
    return write_records(
        folder / "source.json",
        [
            record(0, licence="MIT"),
            record(1, licence="MIT", origin="web"),
            record(2, image=None, conversations=text),
            record(3, image=["images/0.jpg", "images/0.jpg"],
                   conversations=[{"from": "human", "value": "<image><image>Which?"}, text[1]]),
        ],
    )  # fmt: skip


def test_the_manifest_and_the_report_say_what_was_counted(tmp_path: Path) -> None:
    report = convert("llava", odd_source(tmp_path), tmp_path / "store")

    notes = mmdata.open(tmp_path / "store").manifest.notes
    assert report.notes == notes
    assert notes["extra"] == {"licence": 2, "origin": 1, "turns.weather": 2}
    assert (notes["without_media"], notes["doubled"]) == (1, 1)
    assert "unplaced" not in notes


def test_convert_and_info_print_it(tmp_path: Path) -> None:
    source, store = odd_source(tmp_path), str(tmp_path / "store")

    printed = [
        CliRunner().invoke(cli, arguments).output
        for arguments in (
            ["convert", "llava", str(source), "-o", store, "--split", "train=0.5,val=0.5"],
            ["info", store],
        )
    ]

    for output in printed:
        for words in (
            "licence: 2",
            "turns.weather: 2",
            "1 rows without any",
            "1 again in a row",
        ):
            assert words in output
        assert "train=0.5,val=0.5 by media, seed 0" in output
    shown = json.loads(CliRunner().invoke(cli, ["info", store, "--json"]).output)
    assert shown["notes"]["extra"]["origin"] == 1


def test_convert_and_info_print_the_format_that_was_found_and_names_that_were_believed(
    tmp_path: Path,
) -> None:
    write_images(tmp_path, ["images/0.jpg"])
    file, store = write_records(tmp_path / "val.json", [record(0)]), str(tmp_path / "store")

    for arguments in (["convert", "auto", str(file), "-o", store], ["info", store]):
        output = CliRunner().invoke(cli, arguments).output

        assert "llava, by 1 record " in output
        assert f"val: the name of {file}" in output


def test_a_source_of_text_alone_has_no_row_that_lacks_media(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]
    file = write_records(tmp_path / "a.json", [record(0, image=None, conversations=turns)])

    assert convert("llava", file, tmp_path / "store").notes == {"check": "exists", "renamed_ids": 0}


def odd_clips(folder: Path) -> Path:
    """A source about an AVI with dropped frames, a film with a cover, and an even clip."""
    (folder / "0.mp4").write_bytes(clip("mjpeg", "avi", [0, 1, 4, 5, 6, 9]))
    (folder / "1.mp4").write_bytes(with_cover(clip("h264", "mp4", range(6)), "mp4"))
    (folder / "2.mp4").write_bytes(clip("h264", "mp4", range(6)))
    said = [{"from": "human", "value": "<video>Which?"}, {"from": "gpt", "value": "That."}]
    records = [record(n, image=None, video=f"{n}.mp4", conversations=said) for n in range(3)]
    return write_records(folder / "source.json", records)


def test_videos_that_are_oddly_made_are_counted_by_kind_by_all_commands(tmp_path: Path) -> None:
    source, store = str(odd_clips(tmp_path)), str(tmp_path / "store")
    convert_it = ["convert", "llava", source, "-o", store, "--overwrite"]

    for command in ([*convert_it, "--check", "probe"], ["info", store], ["check", store]):
        output = CliRunner().invoke(cli, command).output
        assert "dropped_frames: 1" in output
        assert "attached_picture: 1" in output
    assert mmdata.open(store).manifest.notes["oddities"] == {
        "attached_picture": 1,
        "dropped_frames": 1,
    }

    # Of rows that do not say it, only decoding finds it.
    CliRunner().invoke(cli, [*convert_it, "--check", "exists"])
    assert "dropped_frames" not in CliRunner().invoke(cli, ["check", store]).output
    assert "dropped_frames: 1" in CliRunner().invoke(cli, ["check", store, "--decode"]).output
