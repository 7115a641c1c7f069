"""The same stream as a MindSpore dataset and as a PyTorch one."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from mmdata.errors import ConfigError
from mmdata.pipeline import Stream, mindspore_dataset, torch_dataset
from tests.pipeline.words import WordTemplate, broken, mixed

with warnings.catch_warnings():  # both warn while they load
    warnings.simplefilter("ignore")
    pytest.importorskip("mindspore")
    import mindspore as ms

    DataLoader = pytest.importorskip("torch.utils.data").DataLoader

pytestmark = pytest.mark.mindspore


def stream(**options: Any) -> Stream:
    return Stream(
        mixed(40), WordTemplate(), **{"seq_length": 40, "batch_size": 4, "max_views": 2, **options}
    )


def test_a_mindspore_pass_gives_the_batches_of_an_epoch_column_by_column() -> None:
    expected = list(stream())

    rows = list(
        mindspore_dataset(stream(), num_workers=2).create_dict_iterator(
            num_epochs=1, output_numpy=True
        )
    )

    assert len(rows) == len(expected) == 10
    for row, batch in zip(rows, expected, strict=True):
        assert list(row) == list(batch)
        for name in batch:
            assert row[name].dtype == batch[name].dtype
            np.testing.assert_array_equal(row[name], batch[name])


def test_mindspore_epochs_go_on_where_the_last_one_ended() -> None:
    expected = stream()
    epochs = [list(expected), list(expected), list(expected)]

    rows = mindspore_dataset(stream()).create_dict_iterator(num_epochs=3, output_numpy=True)

    for epoch in epochs:
        for batch, row in zip(epoch, rows, strict=True):
            np.testing.assert_array_equal(row["input_ids"], batch["input_ids"])


def test_a_new_iterator_for_each_epoch_loses_nothing() -> None:
    expected = stream()
    epochs = [list(expected), list(expected)]
    dataset = mindspore_dataset(stream())

    for epoch in epochs:
        rows = list(dataset.create_dict_iterator(num_epochs=1, output_numpy=True))
        np.testing.assert_array_equal(
            [row["input_ids"] for row in rows], [batch["input_ids"] for batch in epoch]
        )


def test_looking_at_sizes_shapes_and_types_takes_no_batch() -> None:
    source = stream()
    dataset = mindspore_dataset(source)

    assert dataset.get_dataset_size() == 10
    assert dataset.output_shapes()[:4] == [[4, 40]] * 4
    assert dataset.output_types()[4] == np.uint8
    first = next(dataset.create_dict_iterator(num_epochs=1, output_numpy=True))

    np.testing.assert_array_equal(first["input_ids"], next(iter(stream()))["input_ids"])


def test_a_resumed_mindspore_dataset_gives_the_rest() -> None:
    expected = list(stream())
    source, successor = stream(), stream()
    rows = mindspore_dataset(source).create_dict_iterator(num_epochs=1, output_numpy=True)
    for _ in range(3):
        next(rows)
    successor.load_state_dict(source.state_dict(step=3))

    dataset = mindspore_dataset(successor)
    rest = list(dataset.create_dict_iterator(num_epochs=1, output_numpy=True))

    assert dataset.get_dataset_size() == len(rest) == 7
    np.testing.assert_array_equal(
        [row["labels"] for row in rest], [batch["labels"] for batch in expected[3:]]
    )


def test_where_the_length_of_an_epoch_is_unknown_steps_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="say by steps="):
        mindspore_dataset(stream(packing=True, max_views=8))

    dataset = mindspore_dataset(stream(packing=True, max_views=8), steps=25)

    assert len(list(dataset.create_dict_iterator(num_epochs=1))) == dataset.get_dataset_size() == 25


def test_an_error_reaches_mindspore_with_the_samples_name() -> None:
    samples = mixed(40)
    samples[11] = broken(11)
    failing = Stream(samples, WordTemplate(), seq_length=40, batch_size=4)

    with pytest.raises(RuntimeError, match="SampleError: sample 'b11' of pictures"):
        list(mindspore_dataset(failing).create_dict_iterator(num_epochs=1))


def test_model_train_takes_the_columns_in_the_order_of_the_network() -> None:
    seen: list[Any] = []

    class Counts(ms.nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.weight = ms.Parameter(ms.Tensor(0.5, ms.float32))

        def construct(self, input_ids: Any, labels: Any, *rest: Any) -> Any:
            return (input_ids * (labels != -100)).astype(ms.float32).mean() * self.weight

    class Losses(ms.Callback):
        def on_train_step_end(self, run_context: Any) -> None:
            seen.append(float(run_context.original_args().net_outputs.asnumpy()))

    network = Counts()
    model = ms.Model(network, optimizer=ms.nn.SGD(network.trainable_params(), 0.0))
    model.train(2, mindspore_dataset(stream()), callbacks=[Losses()], dataset_sink_mode=False)

    source = stream()
    means = [(b["input_ids"] * (b["labels"] != -100)).mean() / 2 for b in [*source, *source]]
    np.testing.assert_allclose(seen, means, rtol=1e-5)


def test_torch_gets_the_same_batches_as_tensors() -> None:
    loader = DataLoader(torch_dataset(stream()), batch_size=None)

    for tensors, batch in zip(loader, stream(), strict=True):
        assert list(tensors) == list(batch)
        for name in batch:
            np.testing.assert_array_equal(tensors[name].numpy(), batch[name])


def test_torch_workers_are_refused_for_they_would_repeat_everything() -> None:
    loader = DataLoader(torch_dataset(stream()), batch_size=None, num_workers=1)

    with pytest.raises(ConfigError, match="num_workers=0"):
        list(loader)
