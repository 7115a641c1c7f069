from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import mmdata
from mmdata.errors import ConfigError
from mmdata.mixture import Mixture, write_mixture
from mmdata.mixture.mixture import apportion
from tests.reference import files, read
from tests.stores import numbered


def mixture(folder: Path, text: str, seed: int = 0) -> Mixture:
    (folder / "mix.yaml").write_text(text)
    return Mixture.from_yaml(folder / "mix.yaml", seed=seed, cache=folder / "cache")


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    numbered(tmp_path / "a", 10)
    numbered(tmp_path / "b", 20, first=100)
    return tmp_path


def ids(rows: Mixture) -> list[str]:
    return [row.id for row in rows]


def test_data_sets_follow_one_another_in_the_order_of_the_file(stores: Path) -> None:
    rows = mixture(
        stores,
        "datasets:\n"
        "- {store: b, sampling_strategy: 'end:10%'}\n"
        "- {store: a, sampling_strategy: 'first:3'}\n",
    )

    assert ids(rows) == ["c118", "c119", "c0", "c1", "c2"]
    assert rows[-1].id == "c2"
    assert [row.id for row in rows[1:3]] == ["c119", "c0"]


def test_repeats_are_whole_passes_and_a_random_rest(stores: Path) -> None:
    rows = mixture(stores, "datasets:\n- {store: a, repeat: 2.5}\n")

    assert len(rows) == 25
    assert ids(rows)[:20] == [f"c{n}" for n in range(10)] * 2
    assert set(Counter(ids(rows)).values()) == {2, 3}


def test_random_mapping_draws_as_mindformers_whatever_seed_and_epoch(stores: Path) -> None:
    text = "datasets:\n- {store: a, random_mapping: true, scale: 3}\n- {store: b}\n"
    rows = mixture(stores, text)

    drawn = ids(rows)[:30]
    # numpy.random.RandomState([sixteen numbers of random.Random(draw)]).randint(10)
    assert drawn[:8] == [f"c{row}" for row in (6, 5, 3, 7, 9, 9, 9, 5)]
    assert len(rows) == 50
    assert len(set(Counter(drawn).values())) > 1
    assert drawn[:10] != drawn[10:20]
    assert ids(mixture(stores, text, seed=7)) == ids(rows) == ids(rows.at_epoch(2))
    assert rows.plan()[0].selected == 10 and rows.plan()[0].draws == 30
    assert list(rows.selections[0][1]) == list(range(10))
    plain = mixture(stores, "datasets:\n- {store: a, repeat: 3}\n- {store: b}\n")
    assert rows.fingerprint != plain.fingerprint


def test_weights_share_an_epoch_and_spread_evenly(stores: Path) -> None:
    rows = mixture(
        stores, "epoch_length: 40\ndatasets:\n- {store: a, weight: 3}\n- {store: b, weight: 1}\n"
    )

    first = ["a" if int(row.id[1:]) < 100 else "b" for row in rows]
    assert Counter(first) == {"a": 30, "b": 10}
    for start in range(0, 40, 4):
        assert Counter(first[start : start + 4]) == {"a": 3, "b": 1}
    assert set(Counter(row.id for row in rows if int(row.id[1:]) < 100).values()) == {3}


def test_a_mixture_is_a_function_of_its_seed(stores: Path) -> None:
    text = "datasets:\n- {store: b, sampling_strategy: 'random:25%', repeat: 1.5}\n"

    assert ids(mixture(stores, text, seed=1)) == ids(mixture(stores, text, seed=1))
    assert ids(mixture(stores, text, seed=1)) != ids(mixture(stores, text, seed=2))
    assert mixture(stores, text, seed=1).fingerprint == mixture(stores, text, seed=1).fingerprint
    assert mixture(stores, text, seed=1).fingerprint != mixture(stores, text, seed=2).fingerprint


@pytest.mark.parametrize(
    "entries",
    [
        [{"store": "b", "sampling_strategy": "random:5"}],
        [{"store": "b", "sampling_strategy": "random:25%"}],
        [{"store": "b", "repeat": 0.5}],
        [{"store": "b", "repeat": 1.25}],
        [{"store": "a"}, {"store": "b", "sampling_strategy": "random:5"}],
        [{"store": "a", "weight": 1}, {"store": "b", "weight": 3, "sampling_strategy": "random:5"}],
    ],
)
def test_whatever_is_drawn_at_random_is_drawn_by_the_seed_alone(
    stores: Path, entries: list[dict[str, object]]
) -> None:
    """Each drawn part by itself: what another part draws could hide that one does not."""
    text = json.dumps({"datasets": entries})

    drawn = [tuple(ids(mixture(stores, text, seed=seed))) for seed in range(6)]

    assert drawn == [tuple(ids(mixture(stores, text, seed=seed))) for seed in range(6)]
    assert len(set(drawn)) > 3


def test_data_sets_that_are_the_same_draw_apart(stores: Path) -> None:
    """Two entries of one store are two draws, not one twice."""
    for entry in ({"store": "b", "sampling_strategy": "random:10"}, {"store": "b", "repeat": 0.5}):
        rows = ids(mixture(stores, json.dumps({"datasets": [entry, entry]})))
        assert len(rows) == 20
        assert rows[:10] != rows[10:]


def test_paths_can_be_opened_wherever_rows_come_from(stores: Path) -> None:
    rows = mixture(
        stores, f"datasets:\n- store: {stores / 'a'}\n  media_root: {stores}\n- store: b\n"
    )

    assert rows.located(0).media[0].path == f"{stores}/images/000000.jpg"
    assert rows.located(10).media[0].path == "/media/images/000100.jpg"


def test_a_written_mixture_holds_its_rows_under_unique_ids(stores: Path) -> None:
    rows = mixture(
        stores, "datasets:\n- {store: a, repeat: 2}\n- {store: a, sampling_strategy: 'first:1'}\n"
    )

    store = write_mixture(rows, stores / "mixed")

    assert [row.id for row in store] == [f"c{n}" for n in range(10)] + [
        f"c{n}#2" for n in range(10)
    ] + ["c0#3"]
    assert store[10].extra == {"id": "c0"}
    assert store.located(0) == rows.located(0)
    assert mmdata.check(store.path) == []


def test_a_plan_says_what_is_taken(stores: Path) -> None:
    rows = mixture(
        stores, "datasets:\n- {store: a, sampling_strategy: 'first:50%', repeat: 3}\n- {store: b}\n"
    )

    first, second = rows.plan()
    assert (first.rows, first.selected, first.draws, first.sampling_strategy) == (
        10,
        5,
        15,
        "first:50%",
    )
    assert (second.rows, second.draws) == (20, 20)
    assert first.share + second.share == pytest.approx(1)


def test_every_fault_of_a_file_is_reported_at_once(stores: Path) -> None:
    text = """
epochs: 3
datasets:
- {store: a, sampling_stategy: all}
- {json_path: missing.json}
- {store: a, repeat: -1}
- {store: a, json_path: b.json}
- {store: a, weight: 2}
- {store: a, sampling_strategy: first}
- {store: a, options: [1]}
- {store: a, random_mapping: 3}
- {store: a, scale: 4}
- {store: a, random_mapping: true, scale: 0}
"""
    with pytest.raises(ConfigError) as caught:
        mixture(stores, text)

    message = str(caught.value)
    for fault in (
        "'epochs'",
        "'sampling_strategy'?",
        "missing.json",
        "repeat",
        "either",
        "weight",
        "sampling_strategy 'first'",
        "options are names and values",
        "random_mapping must be true or false, found 3",
        "scale 4 goes with `random_mapping: true`",
        "scale must be a whole number of at least 1, found 0",
    ):
        assert fault in message


@pytest.mark.parametrize("text", ["", "[]", "datasets: 3", "datasets: []", "datasets: [", "- a"])
def test_a_file_of_another_shape_says_what_is_wanted(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"mix\.yaml"):
        mixture(tmp_path, text)


def test_the_yaml_of_llava_next_works_unchanged(tmp_path: Path) -> None:
    for name, count in (("a", 4), ("b", 5)):
        records = [
            {
                "id": f"{name}-{n}",
                "conversations": [
                    {"from": "human", "value": f"q{n}"},
                    {"from": "gpt", "value": "a"},
                ],
            }
            for n in range(count)
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps(records))
    text = f"""datasets:
  - json_path: {tmp_path}/{{a,b}}.json
    sampling_strategy: "first:60%"
  - json_path: {tmp_path}/b.json
    sampling_strategy: end:20%
"""

    rows = mixture(tmp_path, text)

    assert ids(rows) == ["a-0", "a-1", "a-2", "a-3", "b-0", "b-1", "b-4"]
    assert ids(mixture(tmp_path, text)) == ids(rows)


def test_several_files_mix_as_in_the_originals(golden: Path, tmp_path: Path) -> None:
    for number, file in enumerate(files(golden / "llava_next_video", "sampling_strategies.json")):
        (tmp_path / str(number)).mkdir()
        _mixes_as_in_the_originals(read(file), tmp_path / str(number))


def _mixes_as_in_the_originals(found: dict[str, Any], tmp_path: Path) -> None:
    for name, count in found.get("files", {}).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        stem = name.rpartition(".")[0]
        turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
        records = [json.dumps({"id": f"{stem}-{n}", "conversations": turns}) for n in range(count)]
        (tmp_path / name).write_text(
            "\n".join(records) if name.endswith("jsonl") else f"[{','.join(records)}]"
        )

    for case in found.get("multi_dataset", ()):
        strategies = [entry.get("sampling_strategy", "all") for entry in case["datasets"]]
        rows = mixture(tmp_path, json.dumps({"datasets": case["datasets"]}))
        expected = case["llava_next"]["ids"]
        if any(strategy.startswith("random") for strategy in strategies):
            assert len(rows) == len(expected)
        else:
            assert ids(rows) == expected


def test_apportioned_numbers_sum_to_the_total() -> None:
    assert apportion(100, [1, 1, 1]) == [34, 33, 33]
    assert apportion(7, [0.1, 0.9]) == [1, 6]
