"""What a stream leaves out because it fails: said in the log, written to a file, not too much."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mmdata.errors import DataError, DroppedSampleError, SampleError

__all__ = ["Skips"]

_log: Final = logging.getLogger("mmdata.pipeline")

_FEWEST: Final = 1_000
"""Of fewer samples, a share is taken as of so many:
one bad file among fifty is no reason to stop.
"""


class Skips:
    """The failed samples of one epoch.

    ``samples`` are those that are read, of which more than the share ``limit`` may not fail;
    ``file`` takes a line of JSON for each. What a template leaves out as too long has not failed.
    """

    def __init__(self, epoch: int, samples: int, limit: float, file: Path | None) -> None:
        self._epoch = epoch
        self._samples = samples
        self._limit = limit
        self._file = file
        self._reasons: Counter[str] = Counter()

    def add(self, error: SampleError, write: bool) -> None:
        """Account for a sample that is left out; ``write`` it, unless another process does.

        Raises:
            DataError: more samples have failed than may; the message sums them up.
        """
        if isinstance(error.__cause__, DroppedSampleError):
            return

        self._reasons[error.reason] += 1
        _log.warning("left out: %s", error)
        if self._file is not None and write:
            line = {
                "epoch": self._epoch,
                "row": error.row,
                "id": error.id,
                "file": error.path or None,
                "reason": error.reason,
                "detail": str(error),
            }
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # Opened for each line, of which there are few: whoever reads it meanwhile has them all.
            # A name that is no Unicode becomes an escape, which JSON has too.
            with self._file.open("a", encoding="utf-8", errors="backslashreplace") as lines:
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")

        if self._reasons.total() > self._limit * max(self._samples, _FEWEST):
            raise DataError(
                f"{self._summary()}, more than on_error_limit={self._limit:g} allows; "
                f"the last one: {error}. "
                "Mend the data (`mmdata check STORE --decode` names all), or raise the limit."
            )

    def close(self, unsaid: Mapping[str, int]) -> None:
        """Say at the end of the epoch what was left out of it, if anything was: samples, and what
        was left ``unsaid`` of those that were read, by kind.
        """
        if unsaid:
            kinds = ", ".join(f"{kind} {count:,}" for kind, count in Counter(unsaid).most_common())
            _log.warning(
                "epoch %d: left out of samples, for the model family has no way to say it: %s",
                self._epoch,
                kinds,
            )
        if self._reasons:
            _log.warning("%s%s", self._summary(), f"; see {self._file}" if self._file else "")

    def _summary(self) -> str:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self._reasons.most_common())
        return (
            f"epoch {self._epoch}: {self._reasons.total():,} of {self._samples:,} samples were "
            f"left out ({reasons})"
        )
