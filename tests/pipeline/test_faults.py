"""Whatever decoding raises costs one sample, and the others are as they were."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mmdata.errors import PluginError, SampleError, UsageError
from mmdata.pipeline.encode import Place, Sample, SampleReader, decode_views
from mmdata.pipeline.stopwatch import Stopwatch
from mmdata.schema import Media
from mmdata.templates import PixelPlan
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
