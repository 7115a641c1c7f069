from __future__ import annotations

import posixpath
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.conversion.locate import all_exist, find, under
from mmdata.errors import RecordError
from mmdata.schema import MediaType

names = st.lists(
    st.sampled_from(["a", "b1", "_", "-", ".", "..", "/", ":", "é", " ", "\n"]), max_size=5
).map("".join)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for name in ("a", "b1/a", "b1/-", "_.b1", "é", "b1/_"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "b1" / "_").write_bytes(b"")
    return folder


@given(
    st.lists(names | st.sampled_from(["a", "b1/a", "_.b1", "b1", "b1/_"]), max_size=3),
    st.booleans(),
)
def test_what_is_said_to_be_there_is_found_as_it_is_spelt(
    root: Path, paths: list[str], look: bool
) -> None:
    if all_exist(str(root), paths, "image", look=look):
        assert [find(str(root), [path], "image", look=look) for path in paths] == paths


@given(st.lists(st.sampled_from(["a", "b1/a", "_.b1"]), max_size=4))
def test_plain_names_that_are_there_are_said_to_be(root: Path, paths: list[str]) -> None:
    assert all_exist(str(root), paths, "image")


@pytest.mark.parametrize("name", ["c", "b1", "b1/_", "../a", "/a", "b1//a", "./a", "é", ""])
def test_one_that_is_missing_empty_or_odd_is_enough_for_a_no(root: Path, name: str) -> None:
    assert not all_exist(str(root), ["a", name], "image")


def test_a_missing_file_is_named_by_its_likeliest_place(root: Path) -> None:
    with pytest.raises(
        RecordError, match=r"image not found: 'c' under .* \(nor in 1 other places\)"
    ):
        find(str(root), ["c", "d"], "image")


@pytest.mark.parametrize("root", ["/data/images", "/data/images/", "/"])
@pytest.mark.parametrize(
    "inside", ["a.png", "b/c.png", "images/a.png", "images-private/a.png", "é/ü.png"]
)
def test_a_path_below_the_root_is_spelt_from_there(root: str, inside: str) -> None:
    base = root.rstrip("/")
    for spelled in (
        inside,
        f"{base}/{inside}",
        f"./{inside}",
        f"b/../{inside}",
        f"{base}//{inside}",
    ):
        for allow_outside in (False, True):
            assert under(root.rstrip("/") or "/", spelled, allow_outside=allow_outside) == inside


@pytest.mark.parametrize(
    "path",
    [
        "/data/images-private/a.png",
        "../images2/a.png",
        "/data/images.png",
        "/data/image",
        "..",
        "/data",
        "/",
    ],
)
def test_what_only_begins_like_the_root_is_outside_of_it(path: str) -> None:
    with pytest.raises(RecordError) as caught:
        under("/data/images", path)

    assert caught.value.reason == "outside_media_root"
    assert under("/data/images", path, allow_outside=True) == posixpath.normpath(
        posixpath.join("/data/images", path)
    )


@pytest.mark.parametrize("path", ["a\0b", "\ud800.png"])
def test_a_name_that_no_file_can_have_is_refused(path: str) -> None:
    with pytest.raises(RecordError) as caught:
        under("/data/images", path, allow_outside=True)

    assert caught.value.reason == "bad_encoding"


@pytest.mark.parametrize("kind", ["image", "video"])
def test_what_has_no_bytes_is_refused_though_another_candidate_may_have(
    root: Path, kind: MediaType
) -> None:
    with pytest.raises(RecordError) as caught:
        find(str(root), ["missing", "b1/_", "a"], kind)

    assert caught.value.reason == "empty_media"
    assert find(str(root), ["missing", "a", "b1/_"], kind) == "a"
