"""Files of records, one for each split, written as the rows come."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import msgspec

from mmdata._tools.options import PositiveInt, checked
from mmdata.schema import Split

__all__ = [
    "ARRAY_END",
    "JUDGED",
    "KINDS",
    "LINE_END",
    "PAIRS",
    "JsonWriter",
    "Writer",
    "WritingThread",
    "encode_records",
    "kind_of",
]

_encoder: Final = msgspec.json.Encoder()


LINE_END: Final = "\n"
"""What follows a record in JSON Lines."""
ARRAY_END: Final = ",\n"
"""What follows a record in an array; behind the last it is left out."""
PAIRS: Final = "_pairs"
"""What is added to the name of a file of preference pairs."""
JUDGED: Final = "_judged"
"""What is added to the name of a file of judged answers."""
KINDS: Final = ("", PAIRS, JUDGED)


def kind_of(record: Mapping[str, Any]) -> str:
    """Return what is added to the name of the file of a record: tools take each kind of data in
    files of its own.

    >>> kind_of({"messages": [], "rejected_response": "No."})
    '_pairs'
    """
    if "rejected" in record or "rejected_response" in record:
        return PAIRS
    return JUDGED if "label" in record or "kto_tag" in record else ""


class Writer(Protocol):
    """Writes records into files of one folder."""

    def write(self, split: Split, records: Any) -> None:
        """Add records to the files of a split: a list of what :meth:`Exporter.record` returned, or
        what :meth:`Exporter.records` did.
        """

    def close(self) -> None:
        """End all files."""


class WritingThread:
    """Runs what writes one call after the other in a thread of its own, while whoever asks makes
    what is written next; so many calls as it is ``ahead`` wait at the most.

    What a call raises is raised by one of the next, or by :meth:`close`.
    """

    @checked
    def __init__(self, *, ahead: PositiveInt) -> None:
        self._pool = ThreadPoolExecutor(1, "mmdata-write")
        self._ahead = ahead
        self._asked: deque[Future[None]] = deque()

    @checked
    def run(self, call: Callable[..., None], *arguments: Any) -> None:
        """Ask for a call; wait where enough are asked for already."""
        while len(self._asked) >= self._ahead:
            self._asked.popleft().result()
        self._asked.append(self._pool.submit(call, *arguments))

    def close(self) -> None:
        """Return when all that was asked for is done."""
        try:
            while self._asked:
                self._asked.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)


class JsonWriter:
    """Writes ``SPLIT.json``, an array with a record a line; or JSON Lines, ``SPLIT.jsonl``.

    Where a target wants records of several kinds in files of their own, ``kind_of`` says what is
    added to the name of the file that a record goes to: ``""`` for nothing.
    """

    @checked
    def __init__(
        self,
        folder: Path,
        *,
        lines: bool = False,
        kind_of: Callable[[Mapping[str, Any]], str] | None = None,
    ) -> None:
        self._folder = folder
        self._lines = lines
        self._kind_of = kind_of
        self._files: dict[str, BinaryIO] = {}
        self._thread = WritingThread(ahead=2)

    @checked
    def write(self, split: Split, records: Any) -> None:
        """Add records to the files of a split: a list, or an Arrow array of JSON texts, which are
        of no kind, and end in :data:`LINE_END` or :data:`ARRAY_END`.
        """
        if self._kind_of is None or not isinstance(records, list):
            self._add(split, records)
            return
        kinds: dict[str, list[Any]] = {}
        for record in records:
            kinds.setdefault(self._kind_of(record), []).append(record)
        for kind, some in kinds.items():
            self._add(f"{split}{kind}", some)

    def _add(self, name: str, records: Any) -> None:
        if not len(records):
            return
        if isinstance(records, list):
            encoded: Any = encode_records(records)
            if not self._lines:
                # Inside JSON text a newline is written as an escape: each one ends a record.
                encoded = encoded.replace(b"\n", ARRAY_END.encode())
        else:
            # An array that was made at once: its texts stand end to end in its last buffer.
            encoded = memoryview(records.buffers()[2])
        self._thread.run(self._write_to, name, encoded)

    def _write_to(self, name: str, encoded: Any) -> None:
        """Write records, each with its end, to a file, in the thread."""
        if name not in self._files:
            suffix = "jsonl" if self._lines else "json"
            self._files[name] = (self._folder / f"{name}.{suffix}").open("wb")
            before = b"" if self._lines else b"[\n"
        else:
            before = b"" if self._lines else ARRAY_END.encode()
        self._files[name].write(before)
        self._files[name].write(encoded if self._lines else encoded[: -len(ARRAY_END)])

    def close(self) -> None:
        """End the arrays and close the files."""
        try:
            self._thread.close()
        finally:
            for file in self._files.values():
                if not self._lines:
                    file.write(b"\n]\n")
                file.close()


def encode_records(records: Sequence[Any]) -> bytes:
    r"""Return records as lines of JSON.

    >>> encode_records([{"id": "1"}, {"id": "2"}])
    b'{"id":"1"}\n{"id":"2"}\n'
    """
    try:
        return _encoder.encode_lines(records)
    except (OverflowError, msgspec.MsgspecError):  # an integer of more than 64 bits
        lines = [json.dumps(record, ensure_ascii=False, default=_decode_raw) for record in records]
        return "".join(f"{line}\n" for line in lines).encode()


def _decode_raw(value: object) -> Any:
    if isinstance(value, msgspec.Raw):
        return json.loads(bytes(value))
    raise TypeError(f"JSON has no {type(value).__name__}")
