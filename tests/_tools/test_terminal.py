"""Nothing that others wrote steers the terminal of who looks at it:
it is shown as escapes, wherever it is shown.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmdata
from mmdata._tools.progress import progress
from mmdata._tools.terminal import json_text, one_line, visible
from mmdata.cli import main
from mmdata.rejects import Reason, Reject
from mmdata.report.tokens import color_tokens
from mmdata.schema import Conversation, Image, Media, assistant, user
from tests.source_files import record, write_records
from tests.stores import write
from tests.vocabularies import published_anywhere

TITLE: Final = "\x1b]0;owned\x07"
REVERSED: Final = "\u202egpj.exe\u2066"
RED: Final = "\x9b31m"
FORGED: Final = "a\r\nrows  1,000,000\x08\x7f"
NASTY: Final = (TITLE, REVERSED, RED, FORGED, "\u2028\u200f\u061c\x85")

anything = st.text(st.characters(), max_size=30) | st.text(
    st.sampled_from([*"".join(NASTY), "é", "中", "\ud800", "\n"])
)


def steers(text: str, *, allowed: str = "\n\t") -> list[str]:
    """The characters of a text that do something to a terminal, other than to be seen."""
    return [
        character
        for character in text
        if character not in allowed
        and (
            unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
            or unicodedata.bidirectional(character)
            in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
            or character in "\u200e\u200f\u061c"
        )
    ]


# --- the function
# -------------------------------------------------------------------------------------------------


@given(anything)
def test_what_is_shown_steers_nothing_and_can_be_printed(text: str) -> None:
    assert not steers(visible(text))
    assert not steers(one_line(text), allowed="")
    visible(text).encode()


@given(anything)
def test_what_steers_nothing_is_shown_as_it_is(text: str) -> None:
    plain = "".join(character for character in text if character not in steers(text))

    assert visible(plain) == plain


@given(anything)
def test_every_character_is_still_told(text: str) -> None:
    """As an escape that Python reads."""
    without = text.replace("\\", "")

    shown = "".join(
        each if ord(each) < 0x7F else f"\\U{ord(each):08x}" for each in one_line(without)
    )
    assert shown.encode().decode("unicode_escape") == without


@given(st.dictionaries(anything, st.lists(anything, max_size=3), max_size=3))
def test_json_means_the_same_and_steers_nothing(value: Any) -> None:
    text = json_text(json.dumps(value, ensure_ascii=False, indent=1))

    assert json.loads(text) == value
    assert not steers(text)


# --- the command
# --------------------------------------------------------------------------------------------------


class Shell:
    """Runs the command in a folder, as the script does."""

    def __init__(self, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self._captured = captured

    def __call__(self, folder: Path, *arguments: str) -> tuple[int, str, str]:
        """Return the exit code and what was printed, where nothing may steer."""
        before = signal.getsignal(signal.SIGTERM)
        with self._patch.context() as patch, pytest.raises(SystemExit) as left:
            patch.chdir(folder)
            patch.setattr(sys, "argv", ["mmdata", *arguments])
            main()
        signal.signal(signal.SIGTERM, before)
        out, err = self._captured.readouterr()
        assert not steers(out), out
        assert not steers(err), err
        return int(left.value.code or 0), out, err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


def nasty_store(folder: Path) -> Path:
    rows = [
        Conversation(
            f"{number}{bad}",
            (user(Image(0), f"line one\n\tline two {bad}"), assistant(f"answer {bad}")),
            (Media("image", f"images/{bad}.jpg"),),
            f"source {bad}",
            extra={bad: bad},
        )
        for number, bad in enumerate(NASTY)
    ]
    rejects = [Reject(9, f"file{TITLE}", f"id{RED}", Reason.MALFORMED, f"detail {REVERSED}")]
    return write(folder / "store", rows, rejects=rejects, media_root=f"/media/{TITLE}").path


def test_a_store_is_shown_with_its_texts_in_lines_and_its_names_in_one(
    tmp_path: Path, run: Shell
) -> None:
    nasty_store(tmp_path)

    for number, bad in enumerate(NASTY):
        code, shown, _ = run(tmp_path, "show", "store", str(number))
        assert code == 0
        assert shown.startswith(f"{number}{one_line(bad)}  (source ")
        assert "line one\n\tline two" in shown
        assert visible(f"answer {bad}") in shown


def test_json_has_the_real_content(tmp_path: Path, run: Shell) -> None:
    nasty_store(tmp_path)

    for number, bad in enumerate(NASTY):
        _, shown, _ = run(tmp_path, "show", "store", str(number), "--json")
        assert json.loads(shown)["id"] == f"{number}{bad}"
        assert msgspec.convert(json.loads(shown)["extra"], dict) == {bad: bad}
    _, shown, _ = run(tmp_path, "info", "store", "--json")
    assert set(json.loads(shown)["sources"]) == {f"source {bad}" for bad in NASTY}


def test_a_table_has_a_line_for_each_row_whatever_is_in_it(tmp_path: Path, run: Shell) -> None:
    nasty_store(tmp_path)

    _, shown, _ = run(tmp_path, "info", "store")

    assert sum(line.startswith("source ") for line in shown.splitlines()) == len(NASTY)
    assert visible(TITLE) in shown


def test_what_a_check_finds_is_told_with_escapes(tmp_path: Path, run: Shell) -> None:
    path = nasty_store(tmp_path)

    code, _, said = run(tmp_path, "check", "store", "--decode", "--workers", "1")
    assert code == 1
    assert visible(RED) in said
    (tmp_path / TITLE).mkdir()
    path.rename(tmp_path / TITLE / REVERSED)
    assert run(tmp_path, "check", f"{TITLE}/{REVERSED}")[1].startswith(one_line(TITLE))


def test_an_account_and_errors_name_files_with_escapes(tmp_path: Path, run: Shell) -> None:
    folder = tmp_path / f"{TITLE}{RED}"
    write_records(
        folder / "source.json", [record(0, id=f"x{TITLE}", image=f"images/{REVERSED}.jpg")]
    )

    _, account, _ = run(folder, "convert", "llava", "source.json", "-o", f"store{REVERSED}")
    assert one_line(REVERSED) in account
    code, _, said = run(folder, "convert", "llava", "source.json", "-o", "strict", "--strict")
    assert code == 1
    assert one_line(TITLE) in said
    for arguments in (
        ("convert", f"llava{TITLE}", "source.json", "-o", "s"),
        ("convert", "llava", f"nowhere{RED}.json", "-o", "s"),
        ("convert", "llava", "source.json", "-o", "s", "--check", f"prob{TITLE}"),
        ("convert", "llava", "source.json", "-o", "s", "--option", f"a{TITLE}={RED}"),
        ("info", f"store{TITLE}"),
        ("mix", f"{REVERSED}.yaml", "--plan"),
        (TITLE,),
        ("formats", RED),
        ("show", "store", TITLE),
    ):
        assert run(folder, *arguments)[0] == 2, arguments


def test_a_name_that_is_no_text_is_told_with_escapes(tmp_path: Path, run: Shell) -> None:
    assert "\\udcff" in run(tmp_path, "info", "store\udcff")[2]


def test_whatever_goes_wrong_in_the_end_is_told_with_escapes(tmp_path: Path) -> None:
    """The last line of the command:
    what no part of it foresaw, with words that may be anybody's.
    """
    code = f"""
import sys
from mmdata import cli
@cli.cli.command()
def fail():
    raise ValueError({TITLE!r} + {REVERSED!r})
sys.argv = ["mmdata", "fail"]
cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False
    )

    assert done.returncode == 1
    assert visible(TITLE) in done.stderr.decode()
    assert "a fault in mmdata" in done.stderr.decode()
    assert not steers(done.stderr.decode())


@pytest.mark.parametrize("terminal", [True, False], ids=["bar", "lines"])
def test_progress_tells_any_name_as_it_is(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither as a control, nor as markup, nor as a field to fill in."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setattr("mmdata._tools.progress._SECONDS_BETWEEN_LINES", 0.0)

    with progress(f"converting [red]{{x}}{TITLE}", 2) as update:
        update(1, 0)

    said = capsys.readouterr().err
    assert f"[red]{{x}}{one_line(TITLE)}" in said
    assert TITLE not in said


class Letters:
    """A tokenizer of characters."""

    special: Final[dict[str, int]] = {}

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        return "".join(map(chr, ids))


def test_a_conversation_as_tokens_is_shown_with_escapes() -> None:
    import numpy as np

    from mmdata.templates import Encoded

    ids = np.array([ord(character) for character in "".join(NASTY)], np.int32)

    assert not steers(color_tokens(Encoded(ids, ids, ids), Letters()).plain)  # type: ignore[arg-type]


def test_a_real_vocabulary_shows_them_with_escapes(tmp_path: Path, run: Shell) -> None:
    nasty_store(tmp_path)
    reading = ["--template", "qwen_vl", "--tokenizer", os.fspath(published_anywhere("qwen"))]

    assert visible(TITLE) in run(tmp_path, "show", "store", "0", *reading)[1]


def test_the_store_is_as_it_was_written(tmp_path: Path) -> None:
    """Escapes are for those who look; what is kept is what was given."""
    assert [row.id for row in mmdata.open(nasty_store(tmp_path))] == [
        f"{n}{bad}" for n, bad in enumerate(NASTY)
    ]
