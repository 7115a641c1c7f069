"""Answers as JSON Lines that a run which was ended goes on with, and that several processes write.

One process writes the file itself, a line as soon as there is one. Of several, each writes a file
of its own beside it; who is the last to be done joins them, in the order of the questions.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from mmdata.errors import ConfigError
from recipes.questions import Question

PAUSE: Final = 0.5  # seconds between two looks at what the others have written


@dataclass(frozen=True)
class Share:
    """Which of the questions a process answers: every `count`-th, from the one of its `index`."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True)
class AnswerFile:
    """Where a process writes its answers: lines with the `position` and the `id` of a question."""

    path: Path
    share: Share = Share()

    @property
    def own(self) -> Path:
        """The file that this process writes."""
        if self.share.count == 1:
            return self.path
        piece = f"{self.path.name}.{self.share.index}-of-{self.share.count}"
        return self.path.with_name(piece)

    def open_questions(self, questions: Sequence[Question]) -> list[Question]:
        """Those of the share without an answer, whoever has begun to answer them.

        Raises:
            ConfigError: if what is there answers other questions.
        """
        told = self._read(questions)
        mine = questions[self.share.index :: self.share.count]
        return [one for one in mine if one.number not in told]

    def append(self) -> IO[str]:
        """The file of this process, open for more lines; half a line at its end is taken away."""
        self.own.parent.mkdir(parents=True, exist_ok=True)
        if self.own.exists():
            whole = self.own.read_bytes().rpartition(b"\n")
            os.truncate(self.own, len(whole[0]) + len(whole[1]))
        return self.own.open("a", encoding="utf-8")

    def join(self, questions: Sequence[Question]) -> bool:
        """Put all answers into one file, in order, once there are all of them; whether there are.

        Raises:
            ConfigError: if what is there answers other questions.
        """
        told = self._read(questions)
        if len(told) < len(questions):
            return False

        pieces = self._pieces()
        if pieces or list(told) != sorted(told):
            own = f".{self.path.name}.{self.share.index}.{os.getpid()}"
            joined = self.path.with_name(own)
            joined.write_text("".join(told[number] for number in sorted(told)), encoding="utf-8")
            joined.replace(self.path)
        for piece in pieces:
            piece.unlink(missing_ok=True)
        return True

    def join_when_all_are_done(
        self, questions: Sequence[Question], wait: Callable[[], object]
    ) -> None:
        """Wait for the processes that answer the other shares, and join the answers; `wait` is
        called now and then meanwhile.

        Who leaves earlier is taken for dead by msrun, which then ends the others too.
        """
        while not self.join(questions):
            wait()
            time.sleep(PAUSE)

    def count_faults(self) -> int:
        """How many errors there are in place of answers, once all are joined."""
        return sum("error" in json.loads(line) for line in _whole_lines(self.path))

    def _pieces(self) -> list[Path]:
        """The files of several processes, also of an earlier run of another number of them."""
        return sorted(self.path.parent.glob(f"{self.path.name}.*-of-*"))

    def _read(self, questions: Sequence[Question]) -> dict[int, str]:
        """The whole lines that there are, by the numbers of the questions, each once."""
        told: dict[int, str] = {}
        for file in [self.path, *self._pieces()]:
            for line in _whole_lines(file):
                number = _check(line, questions, file)
                told.setdefault(number, line)
        return told


def _whole_lines(file: Path) -> Iterator[str]:
    try:
        lines = file.open(encoding="utf-8", errors="replace", newline="\n")
    except FileNotFoundError:  # not begun yet, or joined into another a moment ago
        return
    with lines:
        yield from (line for line in lines if line.endswith("\n"))


def _check(line: str, questions: Sequence[Question], file: Path) -> int:
    """The number of the question that a line answers.

    Raises:
        ConfigError: if it answers none of them.
    """
    try:
        said: Mapping[str, Any] = json.loads(line)
        number, name = said["position"], said["id"]
        if questions[number].id == name:
            return int(number)
        found = f"its question {number} is {name!r}, here it is {questions[number].id!r}"
    except (ValueError, KeyError, TypeError, IndexError):
        found = f"it has the line {line.strip()[:60]!r}"
    raise ConfigError(
        f"{file} does not hold answers to these questions: {found}. Name another --output, or take "
        "the file away"
    )
