"""Where there is no terminal, long work says now and then how far it is, in a plain line;
on one, in a bar.
"""

from __future__ import annotations

import io
import re
import sys

import pytest

from mmdata._tools.progress import progress


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_line_now_and_then_says_how_much_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("mmdata._tools.progress.time.monotonic", lambda: now)

    with progress("mixing", 5000) as update:
        for done in (1000, 2000, 3000, 4000):
            now += 4
            update(done, done // 1000)

    assert capsys.readouterr() == ("", "mixing: 3,000 of 5,000, 3 rejected\n")


def test_every_line_is_as_long_after_the_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("mmdata._tools.progress.time.monotonic", lambda: now)

    with progress("converting") as update:
        for done in range(1, 61):
            now += 1
            update(done, 0)

    said = capsys.readouterr().err.splitlines()
    assert said == [f"converting: {done}, 0 rejected" for done in range(10, 61, 10)]


def test_on_a_terminal_a_bar_shows_it_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen := Terminal())

    with progress("decoding", 40) as update:
        update(10, 0)
        update(30, 2)

    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "decoding" in shown
    assert "30/40" in shown
    assert "2 rejected" in shown
