from __future__ import annotations

import io
import os
import re
import time
from base64 import b64decode
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pictures

import mmdata
from mmdata._tools.limits import Limits
from mmdata.errors import UsageError
from mmdata.frame_cache import cache_frames
from mmdata.rejects import Reason, Reject
from mmdata.report import preview
from mmdata.schema import Conversation, Image, Media, Region, Video, assistant, replace, user
from mmdata.store import Store
from mmdata.templates import IGNORE, Encoded
from tests.conversations import plain
from tests.pipeline.words import WordTemplate
from tests.stores import numbered, write
from tests.templates.families import FAMILIES
from tests.video.clips import clip, number_in

RATE = 10
DEADLINE = 5.0
"""Seconds within which a busy machine decodes a small clip."""
COGVLM2_VIDEO = next(family for family in FAMILIES if family.name == "cogvlm2_video")
NOISE = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)


def page_of(store: Store, **options: object) -> str:
    page = store.path.parent / "page.html"
    preview(store, page, overwrite=True, **options)  # type: ignore[arg-type]
    return page.read_text()


def pictures_of(page: str) -> list[NDArray[np.uint8]]:
    urls = re.findall(r'<img src="data:image/webp;base64,([^"]+)"', page)
    return [
        np.asarray(Pictures.open(io.BytesIO(b64decode(unescape(url)))).convert("RGB"))
        for url in urls
    ]


def times_of(page: str) -> list[float]:
    return [float(time) for time in re.findall(r"<time>([0-9.]+) s</time>", page)]


def about_a_clip(path: Path, start: float | None = None, end: float | None = None) -> Conversation:
    """A row about a square clip whose frames show their numbers, ten a second."""
    content = clip("h264", "mp4", range(40), rate=RATE, size=(64, 64))
    (path / "clip.mp4").write_bytes(content)
    media = Media("video", "clip.mp4", start=start, end=end)
    return Conversation("c", (user(Video(0), "What?"), assistant("That.")), (media,))


def about_noise(name: str, *, boxes: int = 0) -> Conversation:
    """A row about a picture that no encoder makes small."""
    out = io.BytesIO()
    Pictures.fromarray(NOISE).save(out, "PNG")
    box = (0.25, 0.5, 0.75, 1.0)
    regions = [Region(f"thing {n}", (box,)) for n in range(boxes)]
    media = Media("image", bytes=out.getvalue())
    return Conversation(name, (user(Image(0), "What?"), assistant("That.", *regions)), (media,))


@pytest.mark.slow
@pytest.mark.parametrize("reads", [True, False], ids=["a template", "no template"])
@pytest.mark.parametrize("bounds", [(None, None), (1.0, 3.0)], ids=["file", "clip"])
@pytest.mark.parametrize("cached", [False, True], ids=["decoded", "cached"])
def test_each_frame_of_a_video_stands_beside_its_own_time(
    tmp_path: Path, reads: bool, bounds: tuple[float | None, float | None], cached: bool
) -> None:
    row = about_a_clip(tmp_path, *bounds)
    store = write(tmp_path / "store", [row], media_root=str(tmp_path))
    if cached:
        cache_frames(store.path, tmp_path / "frames", "uniform:8", codec="webp")
        store = mmdata.open(tmp_path / "frames")

    page = page_of(store, template=COGVLM2_VIDEO.template() if reads else None)

    shown = [
        number_in(np.asarray(Pictures.fromarray(picture).resize((64, 64))))
        for picture in pictures_of(page)
    ]
    begin = bounds[0] or 0.0
    assert shown
    assert times_of(page) == [round(number / RATE - begin, 2) for number in shown]


def test_a_box_is_where_it_is_on_the_picture_and_is_of_its_phrase(tmp_path: Path) -> None:
    page = page_of(write(tmp_path / "store", [about_noise("a", boxes=1)]))

    [style, phrase] = re.findall(r'class="box" style="([^"]+)" title="([^"]+)"', page)[0]
    assert style == "left:25.00%;top:50.00%;width:50.00%;height:50.00%"
    assert phrase == "thing 0"


@pytest.mark.slow
def test_tokens_that_are_trained_on_are_told_from_the_others(tmp_path: Path) -> None:
    row = about_a_clip(tmp_path)
    template = COGVLM2_VIDEO.template()
    store = write(tmp_path / "store", [row], media_root=str(tmp_path))
    encoded = template.encode(store.located(0))

    page = page_of(store, template=template)

    kinds = re.findall(r'<span class="(trained|context|medium)">((?:<i.*?</i>)+)</span>', page)
    ids = {
        kind: [
            int(number)
            for found, run in kinds
            if found == kind
            for title in re.findall(r'title="([0-9 ]+)"', run)
            for number in title.split()
        ]
        for kind in ("trained", "context")
    }
    inside = np.zeros(len(encoded), bool)
    for slot in encoded.slots:
        inside[slot.start : slot.stop] = True
    trained = encoded.labels != IGNORE
    assert ids["trained"] == encoded.input_ids[trained].tolist()
    assert ids["context"] == encoded.input_ids[~trained & ~inside].tolist()


@pytest.mark.slow
def test_a_page_of_200_rows_is_below_20_megabytes_whatever_they_hold(tmp_path: Path) -> None:
    noise = about_noise("n")
    long = "word " * 40_000
    rows = [
        replace(noise, id=f"{n}", messages=(user(Image(0), long), assistant("私" * 100_000)))
        for n in range(200)
    ]
    store = write(tmp_path / "store", rows)

    page = page_of(store)

    assert 5e6 < len(page.encode()) < 20e6
    assert len(pictures_of(page)) == 200
    assert "more characters" in page


@pytest.mark.slow
def test_what_is_shown_is_drawn_by_the_seed(tmp_path: Path) -> None:
    store = numbered(tmp_path / "store", 300)

    first, again, other = (page_of(store, rows=5, seed=seed) for seed in (1, 1, 2))

    assert first == again
    assert first != other
    assert first.count('data-kind="rows"') == 5


def test_a_medium_that_cannot_be_shown_says_why_and_the_rest_is_there(tmp_path: Path) -> None:
    gone = about_a_clip(tmp_path)
    (tmp_path / "clip.mp4").unlink()
    store = write(tmp_path / "store", [gone, about_noise("n")], media_root=str(tmp_path))

    report = preview(store, tmp_path / "page.html")

    page = (tmp_path / "page.html").read_text()
    assert (report.rows, report.faults) == (2, 1)
    assert "clip.mp4" in page
    assert "That." in page
    assert page.count('class="fault"') == 1
    assert len(pictures_of(page)) == 1


@dataclass(frozen=True, kw_only=True)
class Deadly(WordTemplate):
    """A template that opens a clip which the decoder does not survive, or never ends with."""

    hangs: bool

    def encode(self, conversation: Conversation) -> Encoded:
        if conversation.id == "c" and self.hangs:
            time.sleep(600)
        if conversation.id == "c":
            os.abort()
        return super().encode(conversation)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hangs", "said"),
    [(True, "raise deadline (--deadline, "), (False, "the decoding process died: SIGABRT")],
)
def test_a_clip_that_ends_or_hangs_the_decoder_costs_its_own_conversation(
    tmp_path: Path, hangs: bool, said: str
) -> None:
    rows = [about_a_clip(tmp_path), about_noise("n")]
    store = write(tmp_path / "store", rows, media_root=str(tmp_path))
    limits = Limits(deadline=DEADLINE)

    report = preview(store, tmp_path / "page.html", template=Deadly(hangs=hangs), limits=limits)

    page = (tmp_path / "page.html").read_text()
    assert (report.rows, report.faults) == (2, 1)
    assert said in page
    assert "That." in page
    assert len(pictures_of(page)) == 9
    assert page.count('class="tokens"') == 1


@pytest.mark.slow
def test_a_picture_larger_than_its_process_may_grow_says_so(tmp_path: Path) -> None:
    Pictures.new("RGB", (8000, 8000)).save(tmp_path / "large.png")
    media = Media("image", "large.png")
    large = Conversation("large", (user(Image(0), "What?"), assistant("That.")), (media,))
    store = write(tmp_path / "store", [large, about_noise("n")], media_root=str(tmp_path))

    page = page_of(store, limits=Limits(memory=300 << 20))

    assert "raise memory (--memory, " in page
    assert len(pictures_of(page)) == 1


def test_a_conversation_that_the_template_cannot_encode_says_why(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [about_noise("a")])

    report = preview(store, tmp_path / "page.html", template=COGVLM2_VIDEO.template())

    assert report.faults == 1
    assert 'class="fault"' in (tmp_path / "page.html").read_text()


def test_rejects_of_every_reason_are_shown_with_what_was_wrong(tmp_path: Path) -> None:
    rejects = [
        Reject(n, "a.json", f"id{n}", reason, f"found {n}")
        for n, reason in enumerate([Reason.BAD_BOX] * 30 + [Reason.EMPTY_TURN] * 2)
    ]
    page = page_of(write(tmp_path / "store", [plain(0)], rejects=rejects))

    assert page.count('data-kind="reject:bad_box"') == 10
    assert page.count('data-kind="reject:empty_turn"') == 2
    assert "found 31" in page
    assert "reject: bad_box</th><td>30" in page


def test_nothing_on_a_page_is_fetched_from_anywhere(tmp_path: Path) -> None:
    page = page_of(write(tmp_path / "store", [about_noise("a")]))

    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_a_page_that_is_there_is_left_unless_it_may_be_replaced(tmp_path: Path) -> None:
    store = numbered(tmp_path / "store", 2)
    page = tmp_path / "page.html"
    page.write_text("mine")

    with pytest.raises(UsageError, match="--overwrite"):
        preview(store, page)
    assert page.read_text() == "mine"
    preview(store.path, page, overwrite=True)
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "store"]


def test_a_page_in_no_folder_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        preview(numbered(tmp_path / "store", 1), tmp_path / "none" / "page.html")
