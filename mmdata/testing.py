"""Laws that every format and every template keeps, for those who write one.

Each function runs what it is given through all of them and raises a :class:`LawError`, an
``AssertionError``, that says which law is broken, by which record, and what was found. Call them
from a test::

    from mmdata.testing import check_format

    def test_acme_keeps_the_laws_of_formats():
        check_format(Acme(), ["tests/data/questions.json"])
"""

from __future__ import annotations

import base64
import copy
import pickle
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from mmdata.errors import TokenError
from mmdata.formats import Format, Origin
from mmdata.formats._batches import attach_files, read_batches
from mmdata.formats._heard import check_heard
from mmdata.formats._parts import KIND_OF, TEXT
from mmdata.formats._turns import ROLES
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Image, Message, Region, Text, Time, Video, replace
from mmdata.sources.record import Record
from mmdata.store.batch import BATCH_RECORDS, ConversationBatch
from mmdata.templates import IGNORE, Encoded, Template

if TYPE_CHECKING:
    from mmdata.pipeline import Batch, Stream

__all__ = ["LawError", "check_format", "check_template"]

_STRUCTURE: Final = frozenset({*ROLES, *KIND_OF, *TEXT})
"""What a record says of its own structure: who speaks, and what a part is."""
_MARKS: Final = r"</?[A-Za-z_-]+>"
"""Placeholders and tags in a text, which become parts."""
_FLAGS: Final = frozenset({"loss", "weight"})
"""The fields that say whether a turn is trained on, which becomes ``Message.train``."""
_BATCH_SIZES: Final = (1, 3, BATCH_RECORDS)


class LawError(AssertionError):
    """A law is broken; the message says which, and by what."""


@dataclass(frozen=True)
class _Read:
    """What a format makes of the sources: a conversation or a reject for each record, in order."""

    records: list[Record | Reject]
    outcomes: list[Conversation | Reject]


def check_format(
    format: Format,  # noqa: A002
    sources: Sequence[str | Path],
    *,
    said_otherwise: Sequence[str] = (),
) -> None:
    """Check that a format keeps the laws of formats when it reads the sources.

    - *Account*: every record ends as one row or as one reject, in its place.
    - *Positions*: a record's file is one of the sources' and its number grows from record to record
      of a file.
    - *Bulk = single*: what is read of many records at once is what is read of each, whatever the
      batches.
    - *Nothing vanishes*: every value in a record is found in its conversation: in texts, paths, or
      ``extra``.
    - *Determinism*: read twice, or after pickling the format, all is the same; reading leaves
      records as they were.
    - *Media*: every path has a place to be looked for.

    ``said_otherwise`` are regular expressions of what the format says in another way than the
    record does, such as ``r"<box>.*?</box>"`` where boxes in a text become regions. They are looked
    for in the record's texts.

    Raises:
        LawError: a law is broken.
    """
    paths = [Path(source) for source in sources]
    found = _read_one_by_one(format, paths)
    _check_positions(found.records, paths)
    _check_bulk(format, paths, found)
    _check_deterministic(format, paths, found)
    for record, outcome in zip(found.records, found.outcomes, strict=True):
        if isinstance(record, Record) and isinstance(outcome, Conversation):
            _check_nothing_vanishes(record, outcome, said_otherwise)
            _check_candidates(format, record, outcome)


def _require(condition: bool, law: str, message: str) -> None:
    if not condition:
        raise LawError(f"{law}: {message}")


def _read_one_by_one(reader: Format, sources: Sequence[Path]) -> _Read:
    records = list(reader.records(sources))
    _require(bool(records), "account", f"no record was found in {', '.join(map(str, sources))}")

    outcomes: list[Conversation | Reject] = []
    for record in records:
        if isinstance(record, Reject):
            outcomes.append(record)
            continue
        if record.has_views:  # of which no copy can be made
            record = replace(record, raw=record.value, has_views=False)
        before = copy.deepcopy(record)
        try:
            outcomes.append(_read_one(reader, record))
        except Exception as error:
            # As a conversion does: whatever a format stumbles over costs that record alone.
            outcomes.append(record.rejected(error))
        _require(record == before, "determinism", f"{_name(record)} was changed while it was read")

    kept = [outcome for outcome in outcomes if isinstance(outcome, Conversation)]
    _require(
        bool(kept), "account", f"no record became a conversation; the first became {outcomes[0]}"
    )
    return _Read(records, outcomes)


def _read_one(reader: Format, record: Record) -> Conversation:
    conversation = reader.conversation(record)
    if record.files:
        conversation = attach_files(conversation, record.files)
    check_heard(conversation, reader.harmless_fields, reader.meaning_fields)
    return conversation


def _check_positions(records: Sequence[Record | Reject], sources: Sequence[Path]) -> None:
    roots = [source.absolute() for source in sources]
    last: tuple[str, int] | None = None
    done: set[str] = set()

    for record in records:
        file, number = record.file, record.number if isinstance(record, Record) else record.record
        path = Path(file).absolute()
        known = any(path == root or root in path.parents for root in roots)
        _require(known, "positions", f"{_name(record)} is in none of the sources")
        if last is not None and last[0] == file:
            _require(
                number > last[1],
                "positions",
                f"{_name(record)} comes after number {last[1]} of the same file",
            )
        else:
            _require(
                file not in done, "positions", f"{_name(record)} comes after records of other files"
            )
            done.add(file)
        last = file, number


def _check_bulk(reader: Format, sources: Sequence[Path], found: _Read) -> None:
    rows = [outcome for outcome in found.outcomes if isinstance(outcome, Conversation)]
    rejects = [outcome for outcome in found.outcomes if isinstance(outcome, Reject)]
    # Through a batch, as those read at once: both have then been rounded and written as JSON in the
    # same way.
    single = list(ConversationBatch.from_conversations(rows).conversations())
    names = [
        _name(record)
        for record, outcome in zip(found.records, found.outcomes, strict=True)
        if isinstance(outcome, Conversation)
    ]

    for size in _BATCH_SIZES:
        batches = list(read_batches(reader, sources, records=size))
        count = sum(batch.num_records for batch in batches)
        _require(
            count == len(found.records),
            "account",
            f"{len(found.records)} records make {count} rows and rejects",
        )

        many = [conversation for batch in batches for conversation in batch.conversations()]
        for name, one, other in zip(names, single, many, strict=False):
            _require(
                one == other,
                "bulk = single",
                f"{name} is read alone as {one!r}, and among others as {other!r}",
            )
        _require(
            len(many) == len(single),
            "account",
            f"{len(single)} rows one by one are {len(many)} in batches",
        )
        refused = [reject for batch in batches for _, reject in batch.rejects]
        places = [(reject.file, reject.record, reject.reason) for reject in refused]
        wanted = [(reject.file, reject.record, reject.reason) for reject in rejects]
        _require(
            places == wanted,
            "bulk = single",
            f"rejects one by one are {wanted}, and in batches {places}",
        )


def _check_deterministic(reader: Format, sources: Sequence[Path], found: _Read) -> None:
    again = pickle.loads(pickle.dumps(reader))
    _require(
        again == reader,
        "determinism",
        "the format is another after pickling; make it a frozen dataclass",
    )
    for record, other in zip(found.records, again.records(sources), strict=True):
        _require(
            record == other, "determinism", f"{_name(record)} was read a second time as {other!r}"
        )

    for record, outcome in zip(found.records, found.outcomes, strict=True):
        if isinstance(record, Record) and isinstance(outcome, Conversation):
            second = _read_one(again, record)
            _require(
                outcome == second,
                "determinism",
                f"{_name(record)} was read a second time as {second!r}",
            )


def _check_candidates(reader: Format, record: Record, conversation: Conversation) -> None:
    origin = Origin(record.file, record.number, record.id)
    for medium in conversation.media:
        if medium.path is not None:
            places = list(reader.candidates(medium.path, origin))
            _require(
                bool(places),
                "media",
                f"{_name(record)}: there is no place to look for {medium.path!r}",
            )


# --- nothing vanishes
# ------------------------------------------------------------------------------------------------


def _check_nothing_vanishes(
    record: Record, conversation: Conversation, said_otherwise: Sequence[str]
) -> None:
    told = list(_words_of(conversation))
    text = "\0".join(told)  # which is in no text: nothing is found across the end of one
    exact = Counter(told)
    pieces: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    for leaf in _leaves(record.value):
        if isinstance(leaf, str):
            pieces.update(_pieces(leaf, said_otherwise))
        elif leaf is not None:
            numbers[repr(leaf)] += 1

    for piece, count in (pieces + numbers).items():
        times = exact[piece] if piece in numbers else text.count(piece)
        _require(
            times >= count,
            "nothing vanishes",
            f"{_name(record)} says {piece!r} {count} times, "
            f"its conversation {times} times: {conversation!r}",
        )


def _leaves(value: Any) -> Iterator[Any]:
    """Yield what a JSON value holds that is no object and no array."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in _FLAGS or not isinstance(inner, (bool, int)):
                yield from _leaves(inner)
    elif isinstance(value, bytes):
        yield base64.b64encode(value).decode()
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


def _pieces(leaf: str, said_otherwise: Sequence[str]) -> Iterator[str]:
    """Yield what of a text must be told: all between marks, without the white space around them."""
    if leaf.strip().lower() in _STRUCTURE:
        return
    for pattern in said_otherwise:
        leaf = re.sub(pattern, "<x>", leaf, flags=re.DOTALL)
    for piece in re.split(_MARKS, leaf):
        if piece.strip():
            yield piece.strip()


def _words_of(conversation: Conversation) -> Iterator[str]:
    """Yield all that a conversation says in words, a path as often as its medium is shown."""
    yield conversation.id
    yield conversation.source
    yield conversation.split
    for leaf in _leaves(conversation.extra):
        yield leaf if isinstance(leaf, str) else repr(leaf)

    for medium in conversation.media:
        yield medium.path or ""
        yield from medium.frame_paths or ()
        for bound in (medium.start, medium.end):
            if bound is not None:
                # A record may write whole seconds with or without a point.
                whole = [f"{bound:.0f}"] if float(bound).is_integer() else []
                yield from {repr(bound), repr(float(bound)), *whole}
        yield base64.b64encode(medium.bytes or b"").decode()

    for message in conversation.messages:
        for part in message.content:
            if isinstance(part, (Text, Region)):
                yield part.text
            elif isinstance(part, (Image, Video)):
                yield conversation.media[part.media].path or ""
            elif isinstance(part, Time):
                yield f"{part.start} {part.end}"


def _name(record: Record | Reject) -> str:
    number = record.number if isinstance(record, Record) else record.record
    return f"record {number} of {record.file} (id {record.id!r})"


# --- templates
# --------------------------------------------------------------------------------------------------


def check_template(template: Template, conversations: Sequence[Conversation]) -> None:
    """Check that a template keeps the laws of templates with these conversations,
    two or more, all with answers.

    - *Prefix = prompt*: what a model is asked for an answer is what it was trained to answer, token
      by token.
    - *Labels by structure*: the tokens that are trained on are those of the trained answers (of
      all, or of the last alone) and of what ends them; none stands in a medium's slot, none belongs
      to a message that is not trained.
    - *Shape*: the arrays are as long as the sample, slots ascend and do not overlap, the length is
      known before.
    - *Determinism*: encoded twice, or after pickling the template, all is the same.
    - *Resume*: a :class:`mmdata.pipeline.Stream` over it goes on after every step as if it had
      never stopped.

    Media must be readable: the last law decodes them. Give a template whose options train on
    answers alone.

    Raises:
        LawError: a law is broken.
    """
    _require(len(conversations) > 1, "resume", "two conversations or more are needed")
    again = pickle.loads(pickle.dumps(template))

    for conversation in conversations:
        sample = _encode(template, conversation)
        same = _is_same(sample, _encode(template, conversation)) and _is_same(
            sample, _encode(again, conversation)
        )
        _require(
            same,
            "determinism",
            f"{conversation.id!r} is encoded otherwise a second time, or after pickling",
        )
        _check_shape(template, conversation, sample)
        _check_prefix(template, conversation)
        _check_labels(template, conversation, sample)

    _check_resume(template, conversations)


def _encode(template: Template, conversation: Conversation) -> Encoded:
    try:
        return template.encode(conversation)
    except TokenError as error:
        raise LawError(
            f"labels by structure: {conversation.id!r} cannot be encoded: {error}"
        ) from error


def _is_same(one: Encoded, other: Encoded) -> bool:
    import numpy as np

    arrays = ("input_ids", "labels", "position_ids")
    return (one.slots, one.pixels, one.prefix) == (other.slots, other.pixels, other.prefix) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays
    )


def _check_shape(template: Template, conversation: Conversation, sample: Encoded) -> None:
    name, length = repr(conversation.id), len(sample)
    known = template.length(conversation)
    _require(
        known == length + sample.cut,
        "shape",
        f"{name} has {length + sample.cut} tokens, length() says {known}",
    )
    _require(
        sample.labels.shape == (length,),
        "shape",
        f"{name}: labels of the shape {sample.labels.shape}",
    )
    _require(
        sample.position_ids.shape[-1] == length,
        "shape",
        f"{name}: positions {sample.position_ids.shape}",
    )
    end = 0

    for slot in sample.slots:
        _require(
            end <= slot.start < slot.stop <= length,
            "shape",
            f"{name}: {slot} overlaps or leaves the sample",
        )
        end = slot.stop


def _check_prefix(template: Template, conversation: Conversation) -> None:
    """Compare, for every answer, the prompt for it
    with the beginning of the sample that ends with it.
    """
    import numpy as np

    for number, message in enumerate(conversation.messages, 1):
        if message.role != "assistant":
            continue
        trained = replace(message, train=True)
        part = replace(conversation, messages=(*conversation.messages[: number - 1], trained))
        prompt, sample = template.prompt(part), _encode(template, part)
        start = len(prompt)
        same = np.array_equal(sample.input_ids[:start], prompt.input_ids)
        same = same and np.array_equal(sample.position_ids[..., :start], prompt.position_ids)
        name = f"{conversation.id!r}, message {number - 1}"
        _require(
            same,
            "prefix = prompt",
            f"{name}: the prompt of {start} tokens does not begin the sample",
        )
        _require(
            prompt.trained == 0,
            "prefix = prompt",
            f"{name}: {prompt.trained} tokens of the prompt are trained on",
        )


def _check_labels(template: Template, conversation: Conversation, sample: Encoded) -> None:
    _check_said(template, conversation, sample)

    # Each answer alone: what another message left in the labels would now be found. Families that
    # learn the last answer only refuse an earlier one, or learn nothing of it.
    for number, message in enumerate(conversation.messages):
        if message.role != "assistant":
            continue
        is_last = number == len(conversation.messages) - 1
        messages = [replace(other, train=other is message) for other in conversation.messages]
        alone = replace(conversation, messages=tuple(messages))
        try:
            encoded = template.encode(alone)
        except TokenError:
            _require(
                not is_last,
                "labels by structure",
                f"{conversation.id!r}: its last answer cannot be trained on",
            )
        else:
            if is_last or encoded.trained:
                _check_said(template, alone, encoded)


def _check_said(template: Template, conversation: Conversation, sample: Encoded) -> None:
    name = repr(conversation.id)
    is_trained = sample.labels != IGNORE
    own = bool((sample.labels[is_trained] == sample.input_ids[is_trained]).all())
    _require(own, "labels by structure", f"{name}: a label is not the token at its place")
    in_slots = any(is_trained[slot.start : slot.stop].any() for slot in sample.slots)
    _require(not in_slots, "labels by structure", f"{name}: tokens of a medium are trained on")

    said = template.tokenizer.decode(sample.labels[is_trained].tolist(), skip_special=True)
    answers = [message for message in conversation.messages if message.train]
    fits = _consists_of(said, answers) or _consists_of(said, answers[-1:])
    wanted = [message.text for message in answers]
    _require(
        fits,
        "labels by structure",
        f"{name}: the labels say {said!r}, the trained messages {wanted!r}",
    )


def _consists_of(said: str, messages: Sequence[Message]) -> bool:
    """Return whether a text is that of the messages,
    one after the other, with white space between them.
    """
    for message in messages:
        text = message.text.strip()
        said = said.lstrip()
        if not said.startswith(text):
            return False
        said = said[len(text) :]
    return not said.strip()


def _check_resume(template: Template, conversations: Sequence[Conversation]) -> None:
    from mmdata.pipeline import Stream
    from mmdata.store import open as open_store
    from mmdata.store.writer import Origin as StoreOrigin
    from mmdata.store.writer import StoreWriter

    rows = [
        replace(conversation, id=f"{number}") for number, conversation in enumerate(conversations)
    ]
    length = max(len(template.encode(row)) for row in rows)
    with TemporaryDirectory() as folder:
        place = Path(folder) / "store"
        origin = StoreOrigin("testing", {}, media_root=folder)
        with StoreWriter(
            place, sources=sorted({row.source for row in rows}), origin=origin
        ) as writer:
            writer.write_conversations(rows)
        store = open_store(place)

        def stream() -> Stream:
            return Stream(store, template, seq_length=length, batch_size=1, workers=0)

        whole = stream()
        states = [whole.state_dict()]
        batches: list[Batch] = []
        for batch in whole:
            batches.append(batch)
            states.append(whole.state_dict())
        _require(
            len(batches) == len(rows),
            "resume",
            f"{len(rows)} conversations make {len(batches)} batches of one",
        )
        for step, state in enumerate(states[:-1]):
            resumed = stream()
            resumed.load_state_dict(state)
            rest = list(resumed)
            same = len(rest) == len(batches) - step and all(
                map(_is_same_batch, rest, batches[step:])
            )
            _require(same, "resume", f"what follows step {step} differs after loading its state")


def _is_same_batch(one: Batch, other: Batch) -> bool:
    import numpy as np

    return one.ids == other.ids and all(
        np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays
    )
