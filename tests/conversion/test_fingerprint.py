"""A fingerprint is the xxh3 of what it says it is of."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import xxhash

from mmdata.conversion.fingerprint import Fingerprint, compare, fingerprint
from mmdata.errors import MediaError

END = 1 << 16
LENGTHS = [
    0,
    1,
    END - 1,
    END,
    END + 1,
    2 * END - 1,
    2 * END,
    2 * END + 1,
    5 * END + 3,
    (1 << 20) + 1,
    (1 << 21) + 7,
]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_file_and_its_bytes_have_the_hash_that_the_words_say(tmp_path: Path, length: int) -> None:
    data = random.Random(length).randbytes(length)
    file = tmp_path / "file"
    file.write_bytes(data)
    ends = data if length <= 2 * END else data[:END] + data[-END:]

    for source in (file, str(file), data):
        assert fingerprint(source, whole=True) == (length, f"xxh3:{xxhash.xxh3_64_hexdigest(data)}")
        assert fingerprint(source, whole=False) == (
            length,
            f"xxh3-ends:{xxhash.xxh3_64_hexdigest(ends)}",
        )


@pytest.mark.parametrize("whole", [True, False])
def test_a_folder_is_its_pictures_by_name_size_and_content(tmp_path: Path, whole: bool) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    for name in ("b.png", "a.png"):
        (folder / name).write_bytes(name.encode() * 50_000)
    before = fingerprint(folder, whole=whole)
    assert before.size == 500_000

    (folder / ".thumbnails").write_text("of none of them")
    (folder / "below").mkdir()
    assert fingerprint(folder, whole=whole) == before

    for name in ("a.png", "b.png"):  # which changes their order, and which does not
        (folder / name).rename(folder / "c.png")
        assert fingerprint(folder, whole=whole) != before
        (folder / "c.png").rename(folder / name)
    assert fingerprint(folder, whole=whole) == before
    (folder / "a.png").write_bytes(b"A" + b"a.png" * 49_999 + b".png")
    assert fingerprint(folder, whole=whole) != before


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("change", ["first", "last", "longer", "shorter"])
def test_another_file_in_its_place_is_named_with_what_differs(
    tmp_path: Path, whole: bool, change: str
) -> None:
    file = tmp_path / "clip.mp4"
    data = bytearray(random.Random(0).randbytes(3 * END))
    file.write_bytes(data)
    kept = fingerprint(file, whole=whole)
    compare(file, kept)

    match change:
        case "first":
            data[0] ^= 1
        case "last":
            data[-1] ^= 1
        case "longer":
            data += b"x"
        case "shorter":
            del data[-1]
    file.write_bytes(data)

    differs = (
        "hash" if change in {"first", "last"} else f"it has {len(data)} bytes, and had {3 * END}"
    )
    with pytest.raises(MediaError, match=rf"clip\.mp4: .*{differs}") as caught:
        compare(file, kept)
    assert (caught.value.reason, caught.value.path) == ("changed_media", str(file))


def test_the_middle_of_a_file_is_seen_by_the_hash_of_all_of_it_alone(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    data = bytearray(4 * END)
    file.write_bytes(data)
    whole, ends = fingerprint(file, whole=True), fingerprint(file, whole=False)
    data[2 * END] = 1
    file.write_bytes(data)

    compare(file, ends)
    with pytest.raises(MediaError, match="hash"):
        compare(file, whole)


def test_a_file_that_is_gone_or_cannot_be_compared_says_so(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    os.mkfifo(tmp_path / "pipe")
    kept = fingerprint(tmp_path / "a", whole=True)

    for name in ("none", "pipe", "no\0name"):
        with pytest.raises(MediaError, match=r"none|pipe|name") as caught:
            compare(str(tmp_path / name), kept)
        assert caught.value.reason == "missing_media"
    with pytest.raises(MediaError, match="cannot be compared with 'md5:00'"):
        compare(tmp_path / "a", Fingerprint(1, "md5:00"))
