"""The pack of reference data that is part of the tests: whole, small, and of our own making."""

from __future__ import annotations

import hashlib

from tests.reference import PACK, read


def test_the_pack_holds_the_files_that_its_list_names_and_no_other() -> None:
    listed = read(PACK / "contents.json")["sha256"]
    there = {
        path.relative_to(PACK).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("golden", "fixtures")
        for path in (PACK / folder).rglob("*")
        if path.is_file()
    }

    assert there == listed


def test_the_pack_is_small_enough_for_a_repository() -> None:
    sizes = [
        path.stat().st_size for path in PACK.rglob("*") if path.is_file() and path.suffix != ".pyc"
    ]

    assert sum(sizes) < 900_000
    assert max(sizes) < 100_000


def test_the_pack_says_which_programs_made_it() -> None:
    made_with = read(PACK / "contents.json")["made_with"]

    assert {
        "ffmpeg",
        "torch",
        "transformers",
        "sentencepiece",
        "tiktoken",
        "pillow",
    } <= made_with.keys()
    told = (PACK / "README.md").read_text(encoding="utf-8")
    assert all(f"{name} {version}" in told for name, version in made_with.items())
