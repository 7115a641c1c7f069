from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.conversion.locate import all_exist, find
from mmdata.errors import RecordError

names = st.lists(st.sampled_from(["a", "b1", "_", "-", ".", "..", "/", ":", "é", " ", "\n"]), max_size=5).map("".join)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for name in ("a", "b1/a", "b1/-", "_.b1", "é", "b1/_"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "b1" / "_").write_bytes(b"")
    return folder


@given(st.lists(names | st.sampled_from(["a", "b1/a", "_.b1", "b1", "b1/_"]), max_size=3), st.booleans())
def test_what_is_said_to_be_there_is_found_as_it_is_spelt(root: Path, paths: list[str], look: bool) -> None:
    if all_exist(str(root), paths, "image", look=look):
        assert [find(str(root), [path], "image", look=look) for path in paths] == paths


@given(st.lists(st.sampled_from(["a", "b1/a", "_.b1"]), max_size=4))
def test_plain_names_that_are_there_are_said_to_be(root: Path, paths: list[str]) -> None:
    assert all_exist(str(root), paths, "image")


@pytest.mark.parametrize("name", ["c", "b1", "b1/_", "../a", "/a", "b1//a", "./a", "é", ""])
def test_one_that_is_missing_empty_or_odd_is_enough_for_a_no(root: Path, name: str) -> None:
    assert not all_exist(str(root), ["a", name], "image")


def test_a_missing_file_is_named_by_its_likeliest_place(root: Path) -> None:
    with pytest.raises(RecordError, match=r"image not found: 'c' under .* \(nor in 1 other places\)"):
        find(str(root), ["c", "d"], "image")
