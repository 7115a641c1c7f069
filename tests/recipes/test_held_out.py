"""What is held out of training: splits, rows that are in two places, and the loss over them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace as replace_config
from pathlib import Path
from typing import Any

import mindspore as ms
import pytest

from mmdata.errors import ConfigError, UsageError
from mmdata.mixture import RandomMapping
from mmdata.pipeline import Stream
from mmdata.schema import Conversation, Media, replace
from mmdata.store import Store
from models.parallel import Layout
from models.qwen_vl import QwenVL
from recipes import build, finetune, streams
from recipes.config import Data, FinetuneConfig, Run
from recipes.finetune import evaluate
from tests.conversations import plain
from tests.pipeline.test_packed_models import SEQ_LENGTH, qwen
from tests.pipeline.words import Conversations, WordTemplate, mixed
from tests.stores import write

pytestmark = pytest.mark.mindspore
SPLITS = ("train", "val", "train", "test", "val")


def rows(count: int = 10, first: int = 0) -> list[Conversation]:
    return [
        replace(plain(number), split=SPLITS[number % 5]) for number in range(first, first + count)
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Ten rows of three splits, in turn."""
    return write(tmp_path_factory.mktemp("stores") / "split", rows())


def held_out(**options: Any) -> Stream | None:
    config, template = FinetuneConfig(data=Data(batch_size=1, workers=0, **options)), WordTemplate()
    stream = streams.training_stream(config, template, Layout())
    return streams.held_out_stream(config, template, stream.mixture)


def test_the_splits_of_a_store_are_disjoint_and_give_what_was_asked_for(store: Store) -> None:
    splits = {name: build.open_samples(store.path, name, 0) for name in ("train", "val", "test")}

    read = {
        name: [split.located(index) for index in range(len(split))]
        for name, split in splits.items()
    }

    for name, split in splits.items():
        assert {conversation.split for conversation in read[name]} == {name}
        assert isinstance(split, Iterable)
        assert [conversation.id for conversation in split] == [
            conversation.id for conversation in read[name]
        ]
    ids = [conversation.id for found in read.values() for conversation in found]
    assert sorted(ids) == sorted(conversation.id for conversation in store)
    assert len({split.fingerprint for split in splits.values()}) == 3
    assert len(build.open_samples(store.path, None, 0)) == 10


def test_a_stream_of_a_split_takes_its_rows_and_no_others(store: Store) -> None:
    config = FinetuneConfig(data=Data(train=store.path, train_split="train", workers=0))
    stream = streams.training_stream(config, WordTemplate(), Layout())

    read = [stream.mixture.located(index).id for index in range(len(stream.mixture))]

    assert read == [conversation.id for conversation in store if conversation.split == "train"]


def test_rows_drawn_at_random_are_as_many_as_the_steps_need_and_keep_their_order(
    store: Store,
) -> None:
    data = Data(
        train=store.path,
        train_split="train",
        random_mapping=True,
        shuffle=False,
        batch_size=3,
        workers=0,
    )
    config = FinetuneConfig(data=data, run=Run(steps=7, accumulation=2))
    stream = streams.training_stream(config, WordTemplate(), Layout())
    on_two = streams.random_scale(config, 4, Layout(data=2))

    rows = [stream.mixture.located(index).id for index in range(len(stream.mixture))]

    split = [conversation.id for conversation in store if conversation.split == "train"]
    assert rows == [split[place] for place in RandomMapping(range(4), 11)]  # 7 * 3 * 2 // 4 + 1
    assert on_two == 22
    assert streams.total_steps(config, stream) == 7
    alone = build.open_samples(store.path, "train", 0)
    assert stream.mixture.fingerprint != alone.fingerprint


def test_a_scale_is_obeyed_and_refused_without_random_mapping(store: Store) -> None:
    data = Data(train=store.path, random_mapping=True, scale=3, workers=0)
    stream = streams.training_stream(FinetuneConfig(data=data), WordTemplate(), Layout())

    assert len(stream.mixture) == 30
    with pytest.raises(ConfigError, match=r"data\.scale goes with data\.random_mapping=true"):
        held_out(train=store.path, scale=3)
    with pytest.raises(ConfigError, match="10 of 10 rows to evaluate on are trained on too"):
        held_out(train=store.path, random_mapping=True, evaluate=store.path)


def test_a_split_that_no_row_has_is_refused_with_those_there_are(
    store: Store, tmp_path: Path
) -> None:
    untested = write(tmp_path / "untested", [row for row in rows() if row.split != "test"])

    for splits in ({"train_split": "test"}, {"train_split": "train", "evaluate_split": "test"}):
        with pytest.raises(ConfigError, match=r"has no split 'test'; it has train, val$"):
            held_out(train=untested.path, **splits)
    for name in ("training", "vla"):
        with pytest.raises(ConfigError, match=rf"has no split '{name}'; it has test, train, val$"):
            build.open_samples(store.path, name, 0)


def test_a_misspelt_split_is_refused_with_those_a_row_may_have(store: Store) -> None:
    for splits in ({"train_split": "training"}, {"train_split": "train", "evaluate_split": "vla"}):
        with pytest.raises(
            UsageError, match=r"_split must be one of train, val, test or none, found '\w+'"
        ):
            held_out(train=store.path, **splits)


def test_other_splits_and_other_stores_are_held_out(store: Store, tmp_path: Path) -> None:
    other = write(tmp_path / "other", rows(first=10))
    same_ids = write(
        tmp_path / "ids", [replace(row, media=(Media("image", "elsewhere.jpg"),)) for row in rows()]
    )

    assert held_out(train=store.path) is None
    for options in (
        {"train_split": "train", "evaluate_split": "val"},
        {"train_split": "train", "evaluate": store.path, "evaluate_split": "test"},
        {"evaluate": other.path},
        {"evaluate": other.path, "evaluate_split": "val"},
        {"evaluate": same_ids.path},
    ):
        assert held_out(train=store.path, **options) is not None, options


WAYS: dict[str, tuple[dict[str, Any], int, int]] = {
    "no split to train on": ({"evaluate_split": "val"}, 4, 4),
    "one split twice": ({"train_split": "val", "evaluate_split": "val"}, 4, 4),
    "the store itself": ({"evaluate": "split"}, 10, 10),
    "the store, of which a split is trained on": (
        {"train_split": "train", "evaluate": "split"},
        4,
        10,
    ),
    "the store by another name": ({"evaluate": "link"}, 10, 10),
    "a copy of the store": ({"evaluate": "copy", "evaluate_split": "test"}, 2, 2),
    "some of its rows in another store": ({"evaluate": "part"}, 3, 6),
    "a mixture of it": ({"train_split": "train", "evaluate": "mixture.yaml"}, 2, 5),
    "trained on in a mixture": (
        {"train": "mixture.yaml", "evaluate": "split", "evaluate_split": "val"},
        2,
        4,
    ),
}


@pytest.mark.parametrize(("options", "shared", "total"), WAYS.values(), ids=WAYS)
def test_rows_that_are_trained_on_are_no_held_out_ones_whatever_way_they_come(
    store: Store, options: dict[str, Any], shared: int, total: int, tmp_path: Path
) -> None:
    (tmp_path / "split").symlink_to(store.path)
    (tmp_path / "link").symlink_to(store.path)
    shutil.copytree(store.path, tmp_path / "copy")
    write(
        tmp_path / "part", [replace(row, split="train", source="else") for row in rows(6, first=7)]
    )
    (tmp_path / "mixture.yaml").write_text(
        "datasets: [{store: split, sampling_strategy: 'first:5'}]"
    )
    places = {key: tmp_path / value for key, value in options.items() if "split" not in key}

    with pytest.raises(
        ConfigError, match=f"^{shared} of {total} rows to evaluate on are trained on too"
    ) as refused:
        held_out(**{"train": tmp_path / "split", **options, **places})

    assert "data.train_split and data.evaluate_split" in str(refused.value)


def test_a_recipe_that_would_evaluate_on_what_it_trains_on_ends_before_anything_is_made(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Path(finetune.__file__).parent / "configs" / "qwen_vl" / "finetune_stage3_tiny.yaml"
    line = [
        f"data.train={store.path}",
        "data.evaluate_split=val",
        f"run.output={tmp_path / 'out'}",
        "run.graph=false",
    ]

    assert finetune.main([str(config), *line]) == 2

    assert (
        "error: 4 of 4 rows to evaluate on are trained on too ('c1' for one)"
        in capsys.readouterr().err
    )
    assert not list((tmp_path / "out").iterdir())


def held_out_loss(model: Any, samples: Conversations, batch_size: int) -> float:
    options: dict[str, Any] = {
        "seq_length": SEQ_LENGTH,
        "max_views": 2,
        "workers": 0,
        "shuffle": False,
        "drop_last": False,
    }
    return evaluate(model, Stream(samples, WordTemplate(), batch_size=batch_size, **options))


def test_the_held_out_loss_is_the_same_whatever_the_batch_size() -> None:
    ms.set_seed(0)
    model, samples = qwen(), mixed(5)
    head = model.language.head.weight
    head.set_data(head * 10)  # so that it has opinions

    losses = {size: held_out_loss(model, samples, size) for size in (1, 2, 3, 5, 8)}
    alone = {sample.id: held_out_loss(model, type(samples)([sample]), 1) for sample in samples}

    assert all(loss == pytest.approx(losses[1], rel=1e-5) for loss in losses.values()), losses
    # So that it matters which of them count.
    assert max(alone.values()) - min(alone.values()) > 0.01 * losses[1]
    assert model.training


def test_the_held_out_loss_is_that_of_the_model_in_evaluation() -> None:
    drawn = qwen()
    ms.set_seed(0)
    # A model that reads on differently than it trained.
    model = QwenVL(replace_config(drawn.config, train_length=8))
    samples = mixed(3)
    [batch] = Stream(
        samples, WordTemplate(), batch_size=3, seq_length=SEQ_LENGTH, workers=0, shuffle=False
    )
    model.set_train(False)
    evaluated = float(model(*map(ms.Tensor, batch.values())))
    model.set_train(True)

    assert held_out_loss(model, samples, 3) == pytest.approx(evaluated, rel=1e-5)
    assert abs(float(model(*map(ms.Tensor, batch.values()))) - evaluated) > 1e-4
