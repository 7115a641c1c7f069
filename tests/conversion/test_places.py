"""A medium is where its record says, or at a place that the format documents: never at another.

How a call spells the source changes nothing about what is found.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

import mmdata
from mmdata.conversion import convert
from mmdata.conversion.locate import folders_of, slashed, under
from mmdata.errors import RecordError
from tests.formats.dirt import FORMATS, assemble, good
from tests.source_files import record, write_images, write_records

SPELLINGS: Final[dict[str, Callable[[Path], tuple[Path, str]]]] = {
    "absolute": lambda file: (Path("/"), str(file)),
    "relative": lambda file: (file.parent.parent, f"{file.parent.name}/{file.name}"),
    "in its folder": lambda file: (file.parent, file.name),
    "with a dot": lambda file: (file.parent, f"./{file.name}"),
    "through the folder above": lambda file: (file.parent, f"../{file.parent.name}/{file.name}"),
    "with doubled slashes": lambda file: (Path("/"), f"{file.parent}//./{file.name}"),
    "through a link": lambda file: (_link_to(file.parent), file.name),
    "through a link, absolute": lambda file: (
        Path("/"),
        str(_link_to(file.parent) / file.name),
    ),
    "as its folder": lambda file: (file.parent, "."),
}


def _link_to(folder: Path) -> Path:
    link = folder.parent / "elsewhere" / "link"
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(folder)
    return link


def lay(folder: Path, name: str) -> Path:
    """Write three good records of a format, without their media."""
    folder.mkdir(parents=True)
    file = folder / "captions_val2017.json"
    file.write_bytes(assemble(name, [good(name, number) for number in range(3)]))
    return file


def places(name: str, file: Path, store: Path) -> list[str]:
    """Return where the media of a source are looked for first, below the media root."""
    convert(name, file, store, check="none")
    opened = mmdata.open(store)
    return [f"{opened.media_root}/{medium.path}" for row in opened for medium in row.media]


@pytest.mark.slow
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", FORMATS)
def test_every_spelling_of_a_source_gives_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, spelling: str
) -> None:
    file = lay(tmp_path / "work" / "my-data", name)
    write_images(tmp_path, places(name, file, tmp_path / "places"))
    convert(name, file, tmp_path / "plain")

    folder, spelled = SPELLINGS[spelling](file)
    monkeypatch.chdir(folder)
    report = convert(name, spelled, tmp_path / "spelled")

    rows = [(tmp_path / store / "data-00000.arrow").read_bytes() for store in ("plain", "spelled")]
    assert report.rows == 3
    assert rows[0] == rows[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_the_same_name_in_another_folder_is_never_taken(
    tmp_path: Path, name: str
) -> None:
    file = lay(tmp_path / "work" / "my-data", name)
    for place in map(Path, places(name, file, tmp_path / "places")):
        root, base = file.parent, place.name
        likely = [root / "other" / base, root / "my-data" / base, root / "work" / "my-data" / base]
        nested = [root / "my-data" / "media" / base, root / "media" / "media" / base]
        outside = [tmp_path / base, tmp_path / "media" / base, root.parent / "other" / base]
        suffixes = [place.with_suffix(suffix) for suffix in (".png", ".JPG", ".jpeg", ".m4v")]
        write_images(tmp_path, [str(decoy) for decoy in (*likely, *nested, *outside, *suffixes)])

    report = convert(name, file, tmp_path / "store")

    assert report.rejects == {"missing_media": 3}


def test_a_record_finds_what_is_beside_its_file_whatever_is_converted_with_it(
    tmp_path: Path,
) -> None:
    for part in ("", "part/"):
        write_records(tmp_path / f"{part}data.json", [record(0, id=part or "top")])
        write_images(tmp_path, [f"{part}images/0.jpg"])

    convert("llava", [tmp_path / "data.json", tmp_path / "part" / "data.json"], tmp_path / "store")

    rows = mmdata.open(tmp_path / "store")
    assert [row.media[0].path for row in rows] == ["images/0.jpg", "part/images/0.jpg"]


def test_under_a_root_that_is_named_the_root_comes_first_then_the_folders_of_the_files(
    tmp_path: Path,
) -> None:
    sources = [
        write_records(tmp_path / "notes" / part / "data.json", [record(number)])
        for number, part in enumerate(("a", "b"))
    ]
    write_images(tmp_path / "media", ["images/0.jpg", "a/images/0.jpg", "b/images/1.jpg"])

    convert("llava", sources, tmp_path / "store", media_root=tmp_path / "media")

    rows = mmdata.open(tmp_path / "store")
    assert [row.media[0].path for row in rows] == ["images/0.jpg", "b/images/1.jpg"]


def test_an_absolute_path_may_come_to_the_root_by_a_link(tmp_path: Path) -> None:
    write_images(tmp_path, ["real/images/0.jpg", "else/1.jpg"])
    (tmp_path / "link").symlink_to(tmp_path / "real")

    assert under(f"{tmp_path}/real", f"{tmp_path}/link/images/0.jpg") == "images/0.jpg"
    assert under(f"{tmp_path}/link", f"{tmp_path}/real/images/0.jpg") == "images/0.jpg"
    with pytest.raises(RecordError, match="leaves the media root"):
        under(f"{tmp_path}/link", f"{tmp_path}/else/1.jpg")


def test_a_link_to_a_file_stands_in_its_own_folder(tmp_path: Path) -> None:
    blob = write_records(tmp_path / "blobs" / "0a1b", [record(0)])
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "data.json").symlink_to(blob)
    write_images(tmp_path / "snapshot", ["images/0.jpg"])

    assert convert("llava", tmp_path / "snapshot" / "data.json", tmp_path / "store").rows == 1


def link_to_another_folder(folder: Path) -> Path:
    """Return a link to a file of records that lies in another folder, its media beside it."""
    blob = write_records(folder / "blobs" / "0a1b", [record(0)])
    write_images(folder / "blobs", ["images/0.jpg"])
    (folder / "snapshot").mkdir()
    link = folder / "snapshot" / "data.json"
    link.symlink_to(blob)
    return link


def test_media_beside_the_file_that_a_link_leads_to_need_leave(tmp_path: Path) -> None:
    link = link_to_another_folder(tmp_path)

    report = convert("llava", link, tmp_path / "store")

    [reject] = mmdata.open(tmp_path / "store").rejects()
    assert report.rejects == {"outside_media_root": 1}
    assert str(tmp_path / "blobs") in reject["detail"]
    assert "--allow-outside" in reject["detail"]


def test_with_leave_they_are_stored_by_absolute_paths(tmp_path: Path) -> None:
    link = link_to_another_folder(tmp_path)

    convert("llava", link, tmp_path / "store", allow_outside=True)

    [medium] = mmdata.open(tmp_path / "store")[0].media
    assert medium.path == str(tmp_path / "blobs" / "images" / "0.jpg")


def test_the_folder_of_a_link_comes_before_that_of_the_file_it_leads_to(tmp_path: Path) -> None:
    link = link_to_another_folder(tmp_path)
    write_images(link.parent, ["images/0.jpg"])

    convert("llava", link, tmp_path / "store", allow_outside=True)

    assert mmdata.open(tmp_path / "store")[0].media[0].path == "images/0.jpg"


def test_what_is_in_neither_folder_is_missing(tmp_path: Path) -> None:
    link = link_to_another_folder(tmp_path)
    (tmp_path / "blobs" / "images" / "0.jpg").unlink()

    assert convert("llava", link, tmp_path / "store").rejects == {"missing_media": 1}


@pytest.mark.parametrize("check", ["none", "exists"])
def test_a_path_of_windows_is_read_as_one_of_this_system(tmp_path: Path, check: str) -> None:
    file = write_records(tmp_path / "data.json", [record(0, image="images\\0.jpg")])
    write_images(tmp_path, ["images/0.jpg"])

    convert("llava", file, tmp_path / "store", check=check)  # type: ignore[arg-type]

    assert mmdata.open(tmp_path / "store")[0].media[0].path == "images/0.jpg"


def test_a_name_with_a_backslash_that_is_there_is_that_file(tmp_path: Path) -> None:
    file = write_records(tmp_path / "data.json", [record(0, image="images\\0.jpg")])
    write_images(tmp_path, ["images/0.jpg", "images\\0.jpg"])

    convert("llava", file, tmp_path / "store")

    assert mmdata.open(tmp_path / "store")[0].media[0].path == "images\\0.jpg"


@pytest.mark.parametrize("path", ["C:\\data\\0.jpg", "c:/data/0.jpg", "\\\\server\\data\\0.jpg"])
def test_an_absolute_path_of_windows_is_a_reject_that_says_so(tmp_path: Path, path: str) -> None:
    file = write_records(tmp_path / "data.json", [record(0, image=path)])
    write_images(tmp_path, ["0.jpg", "data/0.jpg"])

    report = convert("llava", file, tmp_path / "store")

    assert report.rejects == {"outside_media_root": 1}
    assert "absolute path of Windows" in str(report.why_empty)


def test_folders_are_those_below_the_root_and_in_order() -> None:
    assert folders_of("/data/a.json", "/data") == ("",)
    assert folders_of("/data/p/q/a.json", "/data") == ("p/q", "")
    assert folders_of("/data/p/a.json", "/data", home="/data/p") == ("", "p")
    assert folders_of("/notes/a.json", "/media", home="/notes") == ("",)
    assert folders_of("/notes/a.json", "/media") == ("",)


def test_slashes_are_turned() -> None:
    assert slashed("a\\b\\c.jpg") == "a/b/c.jpg"
