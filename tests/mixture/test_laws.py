"""What holds of every mixture: which rows, how often, where;
what tells two apart; what a store made of one keeps.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmdata
from mmdata.errors import ConfigError
from mmdata.mixture import Dataset, Mixture, Strategy, read_config, write_mixture
from mmdata.mixture.mixture import apportion
from mmdata.schema import Conversation, Media, replace
from mmdata.store import Store
from tests.conversations import plain
from tests.stores import numbered, write

COUNTS = (1, 2, 7, 30)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Store]:
    """Stores of one to thirty rows, whose ids say which they are of: s2-5 is row 5 of the third."""
    folder = tmp_path_factory.mktemp("stores")
    return [_store(folder / f"s{n}", n, count) for n, count in enumerate(COUNTS)]


def _store(path: Path, number: int, count: int) -> Store:
    return write(path, [replace(plain(row), id=f"s{number}-{row}") for row in range(count)])


def mixed(parts: Sequence[tuple[Dataset, Store]], **options: Any) -> Mixture:
    return Mixture(parts, **options)


strategies = st.sampled_from(
    ["all", "first:1", "first:5", "end:40%", "random:3", "random:70%"]
).map(Strategy.parse)
repeats = st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.25])


@st.composite
def recipes(draw: st.DrawFn, *, weighted: bool) -> list[tuple[int, Dataset]]:
    """Which stores a mixture is of, in order, and how much of each."""
    numbers = draw(st.lists(st.integers(0, len(COUNTS) - 1), min_size=1, max_size=5))
    weights = st.floats(0.1, 9)
    return [
        (
            number,
            Dataset(Path(f"s{number}"), sampling_strategy=draw(strategies), weight=draw(weights)),
        )
        if weighted
        else (
            number,
            Dataset(Path(f"s{number}"), sampling_strategy=draw(strategies), repeat=draw(repeats)),
        )
        for number in numbers
    ]


@given(recipes(weighted=False), st.integers(0, 99))
def test_each_part_gives_its_selected_rows_as_often_as_it_says_in_its_place(
    stores: list[Store], recipe: list[tuple[int, Dataset]], seed: int
) -> None:
    rows = mixed([(dataset, stores[number]) for number, dataset in recipe], seed=seed)

    left = [row.id for row in rows]
    for (number, dataset), plan in zip(recipe, rows.plan(), strict=True):
        mine, left = left[: plan.draws], left[plan.draws :]
        selected = dataset.sampling_strategy.count(COUNTS[number])
        assert (plan.rows, plan.selected) == (COUNTS[number], selected)
        assert plan.draws == round(dataset.repeat * selected)
        _is_passes_and_a_rest(mine, selected, number)
    assert left == []


def _is_passes_and_a_rest(drawn: list[str], selected: int, number: int) -> None:
    """Whole passes in one order, then a part of one more, no row of it twice, in that order too."""
    assert {name.partition("-")[0] for name in drawn} <= {f"s{number}"}
    rows = [int(name.partition("-")[2]) for name in drawn]
    passes = [rows[start : start + selected] for start in range(0, len(rows), selected)]
    assert all(each == sorted(set(each)) for each in passes)
    assert all(each == passes[0] for each in passes if len(each) == selected)
    assert all(set(each) <= set(passes[0]) for each in passes)


@given(recipes(weighted=True), st.integers(1, 200), st.integers(0, 99))
def test_weights_give_shares_and_each_draw_its_moment(
    stores: list[Store], recipe: list[tuple[int, Dataset]], length: int, seed: int
) -> None:
    """The j-th of n draws of a part comes at (j + 1/2) / n of the epoch,
    but for the others that are due then too.
    """
    rows = mixed(
        [(dataset, stores[number]) for number, dataset in recipe], seed=seed, epoch_length=length
    )

    draws = [plan.draws for plan in rows.plan()]
    total = sum(dataset.weight or 0 for _, dataset in recipe)
    assert sum(draws) == len(rows) == length
    assert all(
        abs(count - length * (dataset.weight or 0) / total) < 1
        for count, (_, dataset) in zip(draws, recipe, strict=True)
    )
    assert [plan.share for plan in rows.plan()] == [count / length for count in draws]
    places: dict[int, list[int]] = {}
    for index in range(length):
        part, _ = rows._place(index)
        places.setdefault(next(n for n, each in enumerate(rows._parts) if each is part), []).append(
            index
        )
    for number, at in places.items():
        for draw, index in enumerate(at):
            assert abs(index + 0.5 - (draw + 0.5) / draws[number] * length) <= len(recipe) / 2


@given(recipes(weighted=True), st.integers(0, 9))
def test_the_draws_of_a_weighted_part_are_those_of_whole_passes_too(
    stores: list[Store], recipe: list[tuple[int, Dataset]], seed: int
) -> None:
    number, dataset = recipe[0]
    other = Dataset(Path("other"), weight=1.0)
    rows = mixed(
        [(dataset, stores[number]), (other, stores[(number + 1) % len(COUNTS)])],
        seed=seed,
        epoch_length=60,
    )

    mine = [row.id for row in rows if row.id.startswith(f"s{number}-")]
    assert len(mine) == rows.plan()[0].draws
    _is_passes_and_a_rest(mine, rows.plan()[0].selected, number)


def test_the_rest_of_a_pass_is_any_of_the_selected_rows(stores: list[Store]) -> None:
    """Over many seeds each row is drawn and each is left out: none has a place of its own."""
    half = [
        (Dataset(Path("a"), repeat=0.5), stores[2]),
        (Dataset(Path("b"), repeat=1.5), stores[2]),
    ]
    rests = [[row.id for row in mixed(half, seed=seed)] for seed in range(40)]

    for drawn in ([rest[:4] for rest in rests], [rest[11:] for rest in rests]):
        counts = Counter(name for rest in drawn for name in rest)
        assert set(counts) == {f"s2-{row}" for row in range(7)}
        assert max(counts.values()) < 40


@pytest.mark.slow
@given(recipes(weighted=True) | recipes(weighted=False), st.integers(0, 9), st.integers(0, 40))
def test_every_epoch_has_as_many_of_each_row_but_one_and_the_first_is_the_mixture_itself(
    stores: list[Store], recipe: list[tuple[int, Dataset]], seed: int, epoch: int
) -> None:
    rows = mixed([(dataset, stores[number]) for number, dataset in recipe], seed=seed)
    drawn = rows.at_epoch(epoch)

    assert len(drawn) == len(rows)
    assert drawn.fingerprint == rows.fingerprint
    assert drawn.plan() == rows.plan()
    assert list(rows.at_epoch(0)) == list(rows)
    assert list(drawn) == list(rows.at_epoch(epoch))

    assert [row.id.split("-")[0] for row in drawn] == [row.id.split("-")[0] for row in rows]
    if len(recipe) == 1 and (selected := rows.plan()[0].selected):
        counts = Counter(row.id for row in drawn)
        assert set(counts.values()) <= {len(rows) // selected, len(rows) // selected + 1}


@pytest.mark.parametrize(
    "dataset",
    [
        Dataset(Path("a"), weight=1.0),
        Dataset(Path("a"), repeat=0.25),
        Dataset(Path("a"), repeat=2.25),
    ],
    ids=["weight", "quarter", "two and a quarter"],
)
@pytest.mark.parametrize("seed", range(4))
def test_the_draws_differ_from_epoch_to_epoch_until_all_rows_have_been_seen(
    stores: list[Store], dataset: Dataset, seed: int
) -> None:
    other = Dataset(Path("b"), weight=3.0 if dataset.weight else None)
    rows = mixed([(dataset, stores[3]), (other, stores[2])], seed=seed)
    whole, rest = divmod(rows.plan()[0].draws, 30)
    epochs = -(-30 // rest)  # in which each row has been drawn at least once

    def extra(epoch: int) -> frozenset[str]:
        """The rows that this epoch has once more than the others."""
        counts = Counter(row.id for row in rows.at_epoch(epoch) if row.id.startswith("s3-"))
        return frozenset(name for name, count in counts.items() if count == whole + 1)

    first = [extra(epoch) for epoch in range(epochs)]
    second = [extra(epoch) for epoch in range(epochs, 2 * epochs)]

    assert {len(drawn) for drawn in first + second} == {rest}
    for drawn in (first, second):
        assert len(frozenset().union(*drawn)) == 30
        assert len(frozenset().union(*drawn[:-1])) == rest * (epochs - 1)
    assert first != second


def test_without_a_length_an_epoch_of_weights_has_as_many_rows_as_are_selected(
    stores: list[Store],
) -> None:
    parts = [
        (Dataset(Path("a"), sampling_strategy=Strategy.parse("first:5"), weight=1.0), stores[3])
    ]

    assert len(mixed([*parts, (Dataset(Path("b"), weight=2.0), stores[2])])) == 12


@given(st.integers(0, 10**6), st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8))
def test_apportioned_numbers_are_the_shares_but_for_the_rounding(
    total: int, weights: list[float]
) -> None:
    counts = apportion(total, weights)

    exact = [total * weight / sum(weights) for weight in weights]
    assert sum(counts) == total
    assert all(abs(count - share) < 1 for count, share in zip(counts, exact, strict=True))
    up = [share % 1 for count, share in zip(counts, exact, strict=True) if count > share]
    down = [share % 1 for count, share in zip(counts, exact, strict=True) if count <= share]
    assert not up or not down or min(up) >= max(down) - 1e-9


@pytest.mark.slow
@given(recipes(weighted=False) | recipes(weighted=True), st.integers(0, 9), st.data())
def test_a_mixture_is_a_sequence(
    stores: list[Store], recipe: list[tuple[int, Dataset]], seed: int, data: st.DataObject
) -> None:
    rows = mixed([(dataset, stores[number]) for number, dataset in recipe], seed=seed)
    whole = [rows[index] for index in range(len(rows))]

    assert list(rows) == whole
    assert [rows[index] for index in range(-len(rows), 0)] == whole
    piece = data.draw(st.slices(len(rows)))
    assert rows[piece] == whole[piece]
    assert [row.id for row in map(rows.located, range(len(rows)))] == [row.id for row in whole]
    for outside in (len(rows), -len(rows) - 1):
        with pytest.raises(IndexError):
            rows[outside]
        with pytest.raises(IndexError):
            rows.located(outside)


# --- what tells two mixtures apart
# ---------------------------------------------------------------------------------


def _parts(stores: list[Store], **changes: Any) -> list[tuple[Dataset, Store]]:
    first = dataclasses.replace(
        Dataset(Path("a"), sampling_strategy=Strategy.parse("first:5")), **changes
    )
    return [(first, stores[3]), (Dataset(Path("b")), stores[2])]


def test_whatever_changes_a_row_or_its_place_changes_the_fingerprint(stores: list[Store]) -> None:
    others = [
        mixed(_parts(stores), seed=1),
        mixed(_parts(stores, repeat=2.0)),
        mixed(_parts(stores, sampling_strategy=Strategy.parse("end:5"))),
        mixed(_parts(stores, sampling_strategy=Strategy.parse("first:16.6%"))),
        mixed(_parts(stores)[::-1]),
        mixed(
            [
                (Dataset(Path("a"), sampling_strategy=Strategy.parse("first:5")), stores[2]),
                _parts(stores)[1],
            ]
        ),
        mixed(
            [
                (dataclasses.replace(each, weight=weight), store)
                for weight, (each, store) in zip((5.0, 7.0), _parts(stores), strict=True)
            ]
        ),
        mixed(
            [
                (dataclasses.replace(each, weight=float(n)), store)
                for n, (each, store) in enumerate(_parts(stores), 1)
            ]
        ),
    ]

    prints = [mixed(_parts(stores)).fingerprint, *(other.fingerprint for other in others)]
    assert mixed(_parts(stores)).fingerprint == prints[0]
    assert len(set(prints)) == len(prints)


def test_shares_that_differ_in_the_seventh_digit_are_told_apart(tmp_path: Path) -> None:
    """The same number of draws, but of other rows: only the share says which."""
    store = numbered(tmp_path / "a", 10)
    shares = [Strategy.parse(f"random:{share}%") for share in ("40.0000001", "40.0000002")]

    first, second = (
        mixed([(Dataset(Path("a"), sampling_strategy=share), store)]) for share in shares
    )

    assert first.plan()[0].draws == second.plan()[0].draws
    assert first.fingerprint != second.fingerprint
    assert "40.0000001" in first.plan()[0].sampling_strategy


# --- a store of a mixture
# ------------------------------------------------------------------------------------------


def _with_media(number: int, *paths: str) -> Conversation:
    return replace(plain(number), media=tuple(Media("image", path) for path in paths))


def test_every_medium_of_a_mixed_store_is_found_where_it_was(tmp_path: Path) -> None:
    """Under one root, under several, outside of them beside
    a folder of a like name, behind a URL, in the store.
    """
    first = [
        _with_media(0, "x.jpg"),
        _with_media(1, f"{tmp_path}/media-private/x.jpg"),
        _with_media(2, "https://example.org/x.jpg"),
        replace(plain(3), media=(Media("image", "y.jpg", bytes=b"y"),)),
    ]
    write(tmp_path / "a", first, media_root=str(tmp_path / "media" / "a"))
    write(tmp_path / "b", [_with_media(4, "deep/z.jpg")], media_root=str(tmp_path / "media" / "b"))
    (tmp_path / "mix.yaml").write_text("datasets: [{store: a}, {store: b}]")
    rows = Mixture.from_yaml(tmp_path / "mix.yaml")

    store = write_mixture(rows, tmp_path / "mixed")

    assert store.media_root == tmp_path / "media"
    assert [store.located(index) for index in range(5)] == [
        rows.located(index) for index in range(5)
    ]
    assert [row.media[0].path for row in store] == [
        "a/x.jpg",
        f"{tmp_path}/media-private/x.jpg",
        "https://example.org/x.jpg",
        "a/y.jpg",
        "b/deep/z.jpg",
    ]


def test_a_mixed_store_keeps_all_of_a_row_but_the_id_that_is_taken(tmp_path: Path) -> None:
    row = replace(plain(0), split="val", source="here", extra={"difficulty": 3})
    write(tmp_path / "a", [row])
    write(tmp_path / "b", [replace(row, source="there")])
    (tmp_path / "mix.yaml").write_text("datasets: [{store: a, repeat: 3}, {store: b}]")
    rows = Mixture.from_yaml(tmp_path / "mix.yaml")
    told: list[tuple[int, int]] = []

    store = write_mixture(
        rows, tmp_path / "mixed", progress=lambda done, rejects: told.append((done, rejects))
    )

    assert [each.id for each in store] == ["c0", "c0#2", "c0#3", "c0#4"]
    assert [each.extra for each in store] == [{"difficulty": 3}] + [
        {"difficulty": 3, "id": "c0"}
    ] * 3
    assert [(each.split, each.source) for each in store] == [("val", "here")] * 3 + [
        ("val", "there")
    ]
    assert all(each.messages == row.messages for each in store)
    manifest = store.manifest
    assert (manifest.format, manifest.options["seed"], manifest.notes["renamed_ids"]) == (
        "mixture",
        0,
        3,
    )
    assert manifest.sources == {"here": 3, "there": 1}
    assert told[-1] == (4, 0)
    assert mmdata.check(store.path) == []


# --- the file
# --------------------------------------------------------------------------------------------------


def test_a_relative_path_starts_at_the_files_own_folder_before_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the folder that one stands in has the same name;
    only what is not there is looked for here.
    """
    for folder, first in (("there", 0), ("here", 100)):
        numbered(tmp_path / folder / "a", 2, first=first)
    numbered(tmp_path / "here" / "b", 1, first=200)
    (tmp_path / "there" / "mix.yaml").write_text("datasets: [{store: a}, {store: b}]")
    monkeypatch.chdir(tmp_path / "here")

    rows = Mixture.from_yaml("../there/mix.yaml")

    assert [row.id for row in rows] == ["c0", "c1", "c200"]


@pytest.mark.parametrize("wrong", [True, 0, -3, 1.5, "9"])
@pytest.mark.parametrize("key", ["epoch_length", "weight", "repeat"])
def test_numbers_are_numbers_that_can_be_meant(tmp_path: Path, key: str, wrong: object) -> None:
    numbered(tmp_path / "a", 1)
    entry: dict[str, object] = {"store": "a", "weight": 1}
    config = {"datasets": [entry]}
    (config if key == "epoch_length" else entry)[key] = wrong  # type: ignore[assignment]
    (tmp_path / "mix.yaml").write_text(json.dumps(config))

    if key != "epoch_length" and wrong == 1.5:
        assert getattr(read_config(tmp_path / "mix.yaml").datasets[0], key) == 1.5
        return
    with pytest.raises(ConfigError, match=key):
        read_config(tmp_path / "mix.yaml")


def test_an_entry_says_everything_that_is_read_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    entry = {
        "json_path": "a.json",
        "sampling_strategy": "end:3",
        "repeat": 2,
        "weight": 0.5,
        "random_mapping": True,
        "scale": 4,
        "format": "sharegpt",
        "media_root": "images",
        "options": {"source": "mine"},
    }
    (tmp_path / "mix.yaml").write_text(json.dumps({"epoch_length": 7, "datasets": [entry]}))

    config = read_config(tmp_path / "mix.yaml")

    assert config.epoch_length == 7
    assert config.datasets == (
        Dataset(
            json_path=(tmp_path / "a.json",),
            sampling_strategy=Strategy.parse("end:3"),
            repeat=2.0,
            weight=0.5,
            random_mapping=True,
            scale=4,
            format="sharegpt",
            media_root=tmp_path / "images",
            options={"source": "mine"},
        ),
    )
    assert Counter(field.name for field in dataclasses.fields(Dataset)) == Counter(
        [*entry, "store"]
    )
