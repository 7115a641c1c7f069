"""Videos that people really have are told and shown as FFmpeg presents them.

The cases are found by walking the folder that MMDATA_MEDIA_CASES names. Each is a folder with
files and ``expected.json``: the times and the pixels of the frames of each, by FFmpeg, and what
should come out in words.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

import mmdata
from mmdata import video
from mmdata.errors import VideoError
from mmdata.frame_cache import cache_frames
from mmdata.image import resizers
from mmdata.schema import Conversation
from mmdata.store import Store
from mmdata.video.reader import index_by_decoding
from tests.pipeline.words import SIDE
from tests.video.told import STRATEGIES, batches, plan, shown

VARIABLE: Final = "MMDATA_MEDIA_CASES"
LEVELS: Final = ("exists", "probe", "decode")
EXACT: Final = 1e-3  # seconds

# A case may allow that a file is refused, or that what is wrong with it is said.
_MAY_BE_REFUSED: Final = re.compile("VideoError|damage said|damage not empty")


@dataclass(frozen=True)
class Case:
    """A video file and FFmpeg's word on it: ``times`` (frames,) seconds, NaN where it has none, and
    the ``pixels`` of each frame as a hash.
    """

    file: Path
    times: NDArray[np.float64]
    pixels: list[str]
    may_be_refused: bool


def cases() -> list[Case]:
    folder = os.environ.get(VARIABLE)
    return list(_cases(Path(folder))) if folder else []


def _cases(folder: Path) -> Iterator[Case]:
    for path in sorted(folder.glob("*/expected.json")):
        told: dict[str, Any] = json.loads(path.read_text())
        for name, truth in told.get("truth", {}).items():
            if truth.get("rgb24_sha256_16"):
                yield Case(
                    path.parent / name,
                    np.array(truth["ffprobe_times"], np.float64),
                    truth["rgb24_sha256_16"],
                    _MAY_BE_REFUSED.search(told["expected"]) is not None,
                )


@dataclass(frozen=True)
class Stores:
    """One row for each case: as it was converted, and with its frames."""

    plain: Store
    cached: Store

    def rows(self, case: Case) -> list[Conversation]:
        """The conversations about a case; none where it was rejected."""
        names = f"{case.file.parent.name}/{case.file.name}"
        found = []
        for store in (self.plain, self.cached):
            numbers = [row for row in range(len(store)) if store[row].media[0].path == names]
            found += [store.located(row) for row in numbers]
        return found


_STRATEGY: Final = "uniform:6"


@pytest.fixture(scope="module", params=LEVELS)
def stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stores:
    """The cases, converted at a level of looking."""
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} is not set: no reference data here")
    folder = tmp_path_factory.mktemp(request.param)
    root = Path(os.environ[VARIABLE])
    records = [
        {
            "messages": [
                {"role": "user", "content": "<video>What?"},
                {"role": "assistant", "content": "That."},
            ],
            "videos": [case.file.relative_to(root).as_posix()],
        }
        for case in cases()
    ]
    (folder / "all.json").write_text(json.dumps(records))
    mmdata.convert(
        "swift", folder / "all.json", folder / "store", media_root=root, check=request.param
    )
    cache_frames(folder / "store", folder / "frames", _STRATEGY, codec="webp")
    return Stores(mmdata.open(folder / "store"), mmdata.open(folder / "frames"))


def test_there_are_media_cases_where_a_folder_of_them_is_named() -> None:
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} is not set: no reference data here")

    assert cases()


def _frames(case: Case) -> video.Frames | None:
    """All frames of a case; None where it may be refused and is."""
    try:
        return video.sample(case.file, "every:1")
    except VideoError as error:
        assert case.may_be_refused, error
        assert str(case.file) in str(error)
        return None


def _is_near(found: NDArray[np.float64], truth: NDArray[np.float64]) -> bool:
    known = ~np.isnan(truth)
    return found.shape == truth.shape and bool((np.abs(found - truth)[known] <= EXACT).all())


def _by_file(case: Case) -> str:
    return case.file.name


@pytest.mark.parametrize("case", cases(), ids=_by_file)
def test_its_frames_are_those_of_ffmpeg(case: Case) -> None:
    found = _frames(case)
    if found is None:
        return

    assert [sha256(frame.tobytes()).hexdigest()[:16] for frame in found.pixels] == case.pixels
    assert _is_near(found.times, case.times)


@pytest.mark.parametrize("case", cases(), ids=_by_file)
def test_it_has_one_numbering_and_one_clock_however_it_is_looked_at(case: Case) -> None:
    quick = video.index(case.file)
    if _frames(case) is None and not quick.damage:
        # The packets are sound and the pictures cannot be converted: only decoding finds that.
        with pytest.raises(VideoError, match=re.escape(str(case.file))):
            index_by_decoding(case.file)
        return
    thorough = index_by_decoding(case.file)

    assert quick.damage == thorough.damage
    assert quick.num_frames == thorough.num_frames == len(case.pixels)
    assert quick.stored == thorough.stored
    assert (quick.fps, quick.duration) == (thorough.fps, thorough.duration)
    if not quick.damage:
        assert _is_near(quick.times, case.times)


@pytest.mark.slow
@pytest.mark.parametrize("case", cases(), ids=_by_file)
def test_what_is_told_is_what_is_shown(case: Case, stores: Stores) -> None:
    frames = _frames(case)
    rows = stores.rows(case)
    if frames is None:
        for row in rows:
            with pytest.raises(VideoError):
                shown(row, "every:1")
        return
    squeeze = resizers.get("squeeze")

    assert len(rows) == 2, "a sound file is a row"
    for row in rows:
        for strategy in STRATEGIES:
            try:
                times, views = shown(row, strategy)
            except VideoError as error:
                assert "hf_num_frames" in str(error) or "frames a second" in str(error), error
                continue
            numbers = [int(np.abs(frames.times - time).argmin()) for time in times]
            assert np.allclose(frames.times[numbers], times, atol=EXACT)
            for number, view in zip(numbers, views, strict=True):
                np.testing.assert_array_equal(view, squeeze(frames.pixels[number], SIDE))


@pytest.mark.slow
@pytest.mark.parametrize("case", cases(), ids=_by_file)
def test_a_cached_clip_is_told_as_its_file_is(case: Case, stores: Stores) -> None:
    rows = stores.rows(case)
    if _frames(case) is None:
        return
    direct, cached = (plan(row, _STRATEGY) for row in rows)

    assert cached.pixels.times == direct.pixels.times
    assert cached.duration == direct.duration


@pytest.mark.slow
def test_a_stream_of_files_is_that_of_their_lossless_frames(stores: Stores) -> None:
    direct, cached = (list(batches(store, _STRATEGY)) for store in (stores.plain, stores.cached))

    assert direct
    assert direct == cached
