from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmdata.errors import ConfigError, SampleError
from mmdata.pipeline import Batch, Stream
from mmdata.pipeline.encode import Place, Sample
from mmdata.pipeline.group import Grouping
from mmdata.pipeline.order import Order
from mmdata.pipeline.plan import Cursor, EpochPlan
from mmdata.pipeline.produce import Outcome, RankSlice, read_steps
from tests.pipeline.words import (
    PER_VIEW,
    SIDE,
    Conversations,
    WordTemplate,
    broken,
    filmed,
    mixed,
    shown,
    text,
    unspeakable,
)

TEMPLATE = WordTemplate()


def stream(samples: Conversations, **options: Any) -> Stream:
    return Stream(samples, TEMPLATE, **{"seq_length": 40, "batch_size": 4, "workers": 0, **options})


def ids(batches: Iterable[Batch]) -> list[str]:
    return list(chain.from_iterable(chain.from_iterable(batch.ids for batch in batches)))


def in_order(samples: Conversations, **options: Any) -> list[str]:
    return ids(stream(samples, shuffle=False, **options))


def same(ours: Iterable[Batch], theirs: Iterable[Batch]) -> None:
    ours, theirs = list(ours), list(theirs)
    assert [batch.ids for batch in ours] == [batch.ids for batch in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert (one.epoch, one.step, one.repeated, one.tokens) == (
            other.epoch,
            other.step,
            other.repeated,
            other.tokens,
        )
        for name in one:
            assert one[name].dtype == other[name].dtype
            np.testing.assert_array_equal(one[name], other[name])


def test_an_epoch_gives_every_sample_once() -> None:
    samples = mixed(24)

    assert sorted(ids(stream(samples))) == sorted(sample.id for sample in samples)


def test_epochs_have_orders_of_their_own_and_runs_of_one_seed_are_alike() -> None:
    first, second = stream(mixed(24), seed=3), stream(mixed(24), seed=3)

    epochs = [list(first) for _ in range(3)]

    assert len({tuple(ids(epoch)) for epoch in epochs}) == 3
    assert [batch.epoch for epoch in epochs for batch in epoch] == [0] * 6 + [1] * 6 + [2] * 6
    assert [batch.step for epoch in epochs for batch in epoch] == list(range(1, 19))
    same(chain(*epochs), chain(second, second, second))


def test_batches_are_the_same_whatever_the_workers() -> None:
    samples = mixed(37)
    expected = list(stream(samples, drop_last=False))

    for workers in (1, 2, 5):
        same(stream(samples, drop_last=False, workers=workers, prefetch=workers), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"drop_last": False},
        {"packing": True, "window": 16},
        {"group_by": "length", "window": 16},
        {"group_by": "modality", "window": 16, "drop_last": False},
        {"on_error": "skip"},
    ],
)
def test_the_global_batch_is_the_same_whatever_the_ranks(options: dict[str, Any]) -> None:
    samples = mixed(61)
    if "on_error" in options:
        samples[7], samples[20] = broken(7), unspeakable(20)
    whole = list(stream(samples, batch_size=6, **options))

    for world_size in (2, 3, 6):
        ranks = [
            list(
                stream(
                    samples, batch_size=6 // world_size, rank=rank, world_size=world_size, **options
                )
            )
            for rank in range(world_size)
        ]
        joined = [
            tuple(chain.from_iterable(batch.ids for batch in parts))
            for parts in zip(*ranks, strict=True)
        ]
        assert joined == [batch.ids for batch in whole]
        assert [sum(b.repeated for b in parts) for parts in zip(*ranks, strict=True)] == [
            b.repeated for b in whole
        ]
        for parts, batch in zip(zip(*ranks, strict=True), whole, strict=True):
            np.testing.assert_array_equal(
                np.concatenate([part["input_ids"] for part in parts]), batch["input_ids"]
            )


def test_the_last_rows_of_an_epoch_are_left_out_and_counted() -> None:
    short = stream(mixed(10))

    assert len(list(short)) == 2
    assert short.state_dict()["left_out"] == {"dropped_last": 2}


def test_the_last_batch_is_filled_with_repeats_that_are_told() -> None:
    full = stream(Conversations(map(text, range(10))), drop_last=False, shuffle=False)

    *_, last = full

    assert last.ids == (("t8",), ("t9",), ("t8",), ("t9",))
    assert last.repeated == 2
    assert full.state_dict()["left_out"] == {"repeated": 2}


def test_the_length_of_an_epoch_is_known_where_it_can_be() -> None:
    assert stream(mixed(10)).steps_per_epoch == len(list(stream(mixed(10)))) == 2
    assert (
        stream(mixed(10), drop_last=False).steps_per_epoch
        == len(list(stream(mixed(10), drop_last=False)))
        == 3
    )
    assert stream(mixed(10), packing=True).steps_per_epoch is None


def test_a_sample_that_fails_stops_the_stream_with_its_name() -> None:
    samples = Conversations([*map(shown, range(6)), broken(6), shown(7)])

    with pytest.raises(
        SampleError, match=r"sample 'b6' of pictures \(row 6\): <40 bytes>: cannot be decoded"
    ):
        list(stream(samples, shuffle=False))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_fails_is_left_out_and_the_next_moves_up(workers: int) -> None:
    samples = Conversations(
        [shown(0), broken(1), shown(2), unspeakable(3), *map(shown, range(4, 10))]
    )
    skipping = stream(samples, shuffle=False, on_error="skip", workers=workers)

    assert ids(skipping) == ["p0", "p2", "p4", "p5", "p6", "p7", "p8", "p9"]
    assert skipping.state_dict()["left_out"] == {"unreadable_media": 1, "not_encodable": 1}


def test_a_masked_sample_keeps_its_place_and_trains_nothing() -> None:
    samples = Conversations([shown(0), broken(1), shown(2), shown(3)])
    masking = stream(samples, shuffle=False, on_error="mask", max_views=1)

    [batch] = masking

    assert batch.ids == (("p0",), (), ("p2",), ("p3",))
    assert (batch["labels"][1] == -100).all()
    assert (batch["segment_ids"][1] == 0).all()
    # Two of three views are there; the second view there is.
    assert batch["media_index"][2].max() == 2 * PER_VIEW - 1
    assert masking.state_dict()["empty"] == {"unreadable_media": 1}


def test_a_packed_row_goes_on_without_a_sample_that_fails() -> None:
    samples = Conversations([shown(0), broken(1), shown(2), shown(3)])
    packing = stream(samples, shuffle=False, on_error="skip", packing=True, batch_size=1)

    assert sorted(ids(packing)) == ["p0", "p2", "p3"]
    assert packing.state_dict()["empty"] == {"unreadable_media": 1}


def test_what_the_templates_limit_drops_is_left_out_on_every_rank_alike() -> None:
    samples = Conversations([text(0), text(1, words=50), *map(text, range(2, 9))])
    dropping = Stream(
        samples,
        WordTemplate(max_length=20, over_long="drop"),
        batch_size=4,
        shuffle=False,
        workers=0,
    )

    assert ids(dropping) == ["t0", *(f"t{n}" for n in range(2, 9))]
    assert dropping.state_dict()["left_out"] == {"too_long": 1}


def test_a_sample_longer_than_a_row_is_refused_with_the_mend() -> None:
    with pytest.raises(
        SampleError,
        match=r"sample 't0' \(row \d\) has 52 tokens, a row 40; give the template max_length=40",
    ):
        list(stream(Conversations([text(0, words=50)] * 4)))


def test_a_sample_that_fills_a_row_to_its_last_token_and_view_is_taken() -> None:
    sample = shown(1, pictures=2)
    tokens = len(TEMPLATE.encode(sample))

    for packing in (False, True):
        [batch] = stream(
            Conversations([sample]), batch_size=1, seq_length=tokens, max_views=2, packing=packing
        )
        assert batch.tokens == tokens == batch["input_ids"].size
        assert batch.media_mask.tolist() == [True, True]
    with pytest.raises(SampleError, match=f"has {tokens} tokens, a row {tokens - 1}"):
        list(stream(Conversations([sample]), batch_size=1, seq_length=tokens - 1))


def test_a_sample_with_more_pictures_than_a_row_is_refused() -> None:
    with pytest.raises(
        SampleError, match="has 3 pictures, tiles and frames, a row has room for max_views=2"
    ):
        list(stream(Conversations([shown(0, pictures=3)] * 4), max_views=2))


def hanging(release: threading.Event) -> Conversations:
    """Samples the third of which takes as long as it is not released."""

    class Hanging(Conversations):
        def located(self, index: int) -> Any:
            if index == 2 and threading.current_thread().name == "mmdata-worker":
                release.wait(20)
            return self[index]

    return Hanging(map(text, range(9)))


def test_a_sample_that_hangs_is_named_after_its_deadline() -> None:
    release = threading.Event()

    with pytest.raises(SampleError, match=r"sample 't2' \(row 2\) was not read within 0.3 seconds"):
        list(stream(hanging(release), shuffle=False, workers=1, deadline=0.3))
    release.set()


@pytest.mark.parametrize(("world_size", "rank"), [(2, 0), (2, 1), (4, 3)])
def test_ranks_that_skip_stop_at_a_late_sample_for_another_may_have_been_in_time(
    world_size: int, rank: int
) -> None:
    release = threading.Event()
    skipping = stream(
        hanging(release), shuffle=False, on_error="skip", workers=1, deadline=0.2,
        batch_size=4 // world_size, world_size=world_size, rank=rank,
    )  # fmt: skip

    with pytest.raises(SampleError, match=r"sample 't2' \(row 2\) was not read within 0.2 seconds"):
        list(skipping)
    release.set()


def test_one_rank_that_skips_leaves_a_late_sample_out() -> None:
    release = threading.Event()
    skipping = stream(hanging(release), shuffle=False, on_error="skip", workers=1, deadline=0.2)

    assert ids(skipping) == ["t0", "t1", "t3", "t4", "t5", "t6", "t7", "t8"]
    assert skipping.state_dict()["left_out"] == {"late": 1}
    release.set()


@pytest.mark.parametrize(("late", "owned"), [((), [True, True]), ((1,), [False, True])])
def test_a_batch_leaves_memory_that_a_late_decoder_may_still_write_to(
    late: tuple[int, ...], owned: list[bool]
) -> None:
    def read(places: Iterable[Place]) -> Iterator[Outcome]:
        for place in places:
            assert place.room is not None
            sample = Sample(str(place.index), place, TEMPLATE.encode(text(0)), (), ())
            yield SampleError("late") if place.index in late else sample

    order = Order(4, shuffle=False)
    plan = EpochPlan(order, Grouping(2, None, None), 2, 2, True, None, lambda _: True)

    def slab(rows: int) -> NDArray[np.uint8]:
        return np.empty((rows, 1, SIDE, SIDE, 3), np.uint8)

    loaded = read_steps(plan, Cursor(), RankSlice(0, 2), read, lambda _: True, slab=slab)

    assert [batch.slab is not None for batch in loaded if batch.rows] == owned


def test_modality_groups_never_mix_and_all_ranks_take_as_many_steps() -> None:
    batches = list(stream(mixed(200), group_by="modality", batch_size=8, window=64))

    kinds = [{sample[0] for row in batch.ids for sample in row} for batch in batches]
    assert all(len(kind) == 1 for kind in kinds)
    assert {kind.copy().pop() for kind in kinds} == {"t", "p", "v"}


@given(
    st.lists(st.sampled_from([text, shown, filmed]), min_size=1, max_size=40),
    st.integers(1, 4),
    st.booleans(),
)
def test_grouped_batches_come_by_their_earliest_sample(
    kinds: list[Any], batch: int, packing: bool
) -> None:
    encoded = [TEMPLATE.encode(make(number)) for number, make in enumerate(kinds)]
    places = [Place(position, position, one) for position, one in enumerate(encoded)]

    batches, rest = Grouping(batch, "modality", (40, None) if packing else None)(places)

    firsts = [min(place.position for row in rows for place in row) for rows in batches]
    assert firsts == sorted(firsts)
    assert all(len(rows) == batch for rows in batches)
    assert all(0 < len(rows) < batch for rows in rest)
    for rows in (*batches, *rest):
        assert len({place.modality for row in rows for place in row}) == 1
    found = [place.position for rows in (*batches, *rest) for row in rows for place in row]
    assert sorted(found) == list(range(len(kinds)))


def test_length_groups_need_less_padding() -> None:
    def padding(**options: Any) -> float:
        batches = list(stream(mixed(400), dynamic=True, batch_size=8, **options))
        return 1 - sum(batch.tokens for batch in batches) / sum(
            batch["input_ids"].size for batch in batches
        )

    assert padding(group_by="length", window=200) < 0.5 * padding()


def test_an_epoch_that_makes_no_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match="an epoch of 3 samples makes no batch of 4 rows"):
        list(stream(Conversations(map(text, range(3)))))


def test_all_faults_of_the_options_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        stream(
            mixed(4),
            rank=2,
            world_size=2,
            seq_length=0,
            on_error="ignore",
            packing=True,
            layout="mindformers",
        )

    for fault in (
        "rank must be 0 to 1",
        "seq_length must be",
        "on_error must be one of",
        "mindformers",
    ):
        assert fault in str(caught.value)


class Drawn(Conversations):
    """Four samples, others each epoch."""

    def at_epoch(self, epoch: int) -> Conversations:
        return Conversations(text(4 * epoch + n) for n in range(4))


@pytest.mark.parametrize("options", [{}, {"packing": True}, {"on_error": "skip"}])
def test_each_epoch_reads_what_the_mixture_draws_for_it(options: dict[str, Any]) -> None:
    drawing = stream(Drawn(map(text, range(4))), batch_size=1, shuffle=False, **options)

    assert [sorted(ids(drawing)) for _ in range(3)] == [
        [f"t{4 * epoch + n}" for n in range(4)] if epoch < 2 else ["t10", "t11", "t8", "t9"]
        for epoch in range(3)
    ]


def test_a_stream_that_goes_on_reads_the_epoch_it_stood_in() -> None:
    first, second = (
        stream(Drawn(map(text, range(4))), batch_size=1, shuffle=False) for _ in range(2)
    )
    list(first)
    taken = iter(first)
    next(taken)
    second.load_state_dict(first.state_dict())

    assert ids(second) == [name for batch in taken for row in batch.ids for name in row]


@pytest.mark.parametrize("place", ["stores/rwf", b"stores", None, 5])
def test_what_is_neither_a_store_nor_a_mixture_is_said_to_be_none(place: Any) -> None:
    with pytest.raises(ConfigError, match=r"must be a store \(mmdata.open\)"):
        Stream(place, TEMPLATE)
