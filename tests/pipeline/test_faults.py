"""Whatever decoding raises costs one sample, and the others are as they were."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmdata.errors import PluginError, SampleError, UsageError
from mmdata.pipeline import Stream
from mmdata.pipeline.encode import Place, Sample, SampleReader, decode_views
from mmdata.pipeline.stopwatch import Stopwatch
from mmdata.schema import Conversation, Image, Media, Video, assistant, user
from mmdata.templates import Encoded, PixelPlan
from mmdata.templates.toolkit import plan_clip, read_size
from mmdata.video import Clock
from tests.conversion.test_faults import RAISED
from tests.pipeline.words import Conversations, WordTemplate, picture, shown

# The last two are no fault of a file.
OURS = [UsageError("no such resizer"), PluginError("the resizer is at fault")]
FAULTS: list[Exception] = [*RAISED.values(), *OURS]


def raising(medium: Media, plan: PixelPlan, out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Decode a picture; of the number of a fault, raise that."""
    views = decode_views(medium, plan, out)
    high, low = views[0, 0, 0, :2].tolist()
    number = 256 * high + low
    if number < len(FAULTS):
        raise FAULTS[number]
    return views


def reader(samples: Conversations) -> SampleReader:
    return SampleReader(
        samples,
        WordTemplate(),
        max_tokens=40,
        max_views=None,
        decode=raising,
        watch=Stopwatch(),
    )


def test_a_decoder_that_raises_costs_its_sample_and_the_rest_are_identical() -> None:
    count = len(RAISED)
    numbers = [number for fault in range(count) for number in (fault, 500 + fault)]
    samples = Conversations(map(shown, numbers))
    read = reader(samples).read

    for index in range(0, 2 * count, 2):
        with pytest.raises(SampleError) as found:
            read(Place(index, index))
        sample = read(Place(index + 1, index + 1))

        fault = FAULTS[index // 2]
        assert found.value.id == f"p{index // 2}"
        assert found.value.row == index
        assert str(fault) in str(found.value)
        assert isinstance(sample, Sample)
        number = 500 + index // 2
        expected = decode_views(Media("image", bytes=picture(number)), sample.encoded.pixels[0])
        np.testing.assert_array_equal(sample.views[0], expected)


@pytest.mark.parametrize("number", range(len(RAISED), len(FAULTS)))
def test_what_is_no_fault_of_a_file_is_raised_as_it_is(number: int) -> None:
    with pytest.raises((UsageError, PluginError), match="resizer") as found:
        reader(Conversations([shown(number)])).read(Place(0, 0))

    assert found.value is FAULTS[number]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AskingTemplate(WordTemplate):
    """A template that asks the files of media, which raise what they are named as."""

    def encode(self, conversation: Conversation) -> Encoded:
        for number, medium in enumerate(conversation.media):
            if medium.type == "video":
                plan_clip(conversation, number, "uniform:2", ask_clock, resize="crop", size=8)
            else:
                read_size(conversation, number, ask_size)
        return super().encode(words_of(conversation))


def words_of(conversation: Conversation) -> Conversation:
    """The words alone, so that nothing is to be decoded."""
    return Conversation(conversation.id, (user("see"), assistant("it")))


def ask_clock(medium: Media) -> Clock:
    ask_size(medium)
    return Clock(np.arange(4) / 2.0, 2.0)


def ask_size(medium: Media) -> tuple[int, int]:
    stem = Path(medium.path or "").stem
    if stem in RAISED:
        raise RAISED[stem]
    return 8, 8


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"packing": True}, {"group_by": "modality"}])
@pytest.mark.parametrize("on_error", ["skip", "mask"])
def test_whatever_a_file_raises_that_a_template_asks_costs_its_sample(
    tmp_path: Path, on_error: str, options: dict[str, object]
) -> None:
    names = [name for name in RAISED for name in (name, f"sound_{name}")]
    samples = Conversations(
        Conversation(
            name,
            (user(Image(0) if number % 3 else Video(0), "see"), assistant("it")),
            (Media("image" if number % 3 else "video", f"{name}.mp4"),),
        )
        for number, name in enumerate(names)
    )
    sound = Conversations(one for one in samples if one.id not in RAISED)

    def ids(of: Conversations) -> list[str]:
        stream = Stream(
            of,
            AskingTemplate(),
            seq_length=40,
            batch_size=1,
            shuffle=False,
            workers=2,
            on_error=on_error,  # type: ignore[arg-type]
            on_error_limit=1,
            skipped=tmp_path / "skipped.jsonl",
            **options,  # type: ignore[arg-type]
        )
        return [name for batch in stream for row in batch.ids for name in row]

    assert ids(samples) == ids(sound)
    lines = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == sorted(RAISED)
    for line in lines:
        assert line["file"] == f"{line['id']}.mp4"
        assert line["id"] in ("OwnError", "DataError") or line["id"] in line["detail"]


def test_a_template_that_fails_by_itself_ends_the_run() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Faulty(WordTemplate):
        def encode(self, conversation: Conversation) -> Encoded:
            raise KeyError("a fault of ours")

    stream = Stream(Conversations([shown(1)] * 4), Faulty(), on_error="skip", seq_length=40)

    with pytest.raises(KeyError, match="a fault of ours"):
        list(stream)
