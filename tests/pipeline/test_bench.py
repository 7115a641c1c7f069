from __future__ import annotations

import time
from itertools import islice
from pathlib import Path

import pytest

from mmdata.errors import ConfigError
from mmdata.pipeline import Stream
from mmdata.pipeline.bench import bench, measure
from mmdata.schema import Conversation
from tests.pipeline.words import Conversations, WordTemplate, mixed, shown
from tests.stores import write
from tests.vocabularies import published_file


def test_a_report_says_what_was_supplied_and_what_held_it_up() -> None:
    stream = Stream(
        mixed(100), WordTemplate(), seq_length=64, batch_size=4, packing=True, window=16
    )

    report = measure(stream, steps=3)

    assert report.steps == 3
    assert report.samples > 12
    assert 0 < report.single < report.real <= 1
    assert set(report.stages) == {"read", "encode", "decode", "collate"}
    assert report.bottleneck in report.stages
    assert sum(report.shares.values()) == pytest.approx(1)
    assert dict(report.rows())["bottleneck"] == report.bottleneck


@pytest.mark.parametrize("packing", [False, True])
def test_a_report_counts_what_is_in_the_batches(packing: bool) -> None:
    def stream() -> Stream:
        return Stream(
            mixed(60),
            WordTemplate(),
            seq_length=64,
            batch_size=4,
            packing=packing,
            window=16,
            workers=0,
        )

    batches = list(islice(stream(), 3))
    report = measure(stream(), steps=3)

    samples, tokens = (
        sum(len(row) for batch in batches for row in batch.ids),
        sum(batch.tokens for batch in batches),
    )
    assert (report.steps, report.samples, report.tokens) == (3, samples, tokens)
    assert report.bytes == sum(array.nbytes for batch in batches for array in batch.values())
    assert report.real == pytest.approx(tokens / (3 * 4 * 64))
    assert report.single == pytest.approx(tokens / (samples * 64))


def test_the_first_batch_is_timed_by_itself() -> None:
    class Slow(Conversations):
        def located(self, index: int) -> Conversation:
            time.sleep(0.01)
            return self[index]

    report = measure(
        Stream(Slow(map(shown, range(12))), WordTemplate(), seq_length=64, batch_size=1, workers=0),
        12,
    )

    assert 0.01 <= report.first < report.seconds / 2
    assert measure(Stream(mixed(9), WordTemplate(), batch_size=2, workers=0), steps=99).steps == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["", "name: qwen, "], ids=["the template's tokenizer", "a named tokenizer"]
)
def test_a_pipeline_file_is_run(kind: str, fixtures: Path, tmp_path: Path) -> None:
    write(tmp_path / "store", Conversations(map(shown, range(8))))
    (tmp_path / "pipeline.yaml").write_text(
        f"""
        store: store
        template: {{name: qwen_vl, max_length: 512}}
        tokenizer: {{{kind}path: {published_file("qwen", fixtures)}}}
        stream: {{seq_length: 512, batch_size: 2}}
        """
    )

    report = bench(tmp_path / "pipeline.yaml", steps=3)

    assert (report.steps, report.samples) == (3, 6)


def test_all_faults_of_a_pipeline_file_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "stores: x\ntemplate: {name: qwen_vl}\nstream: {seq_lenght: 5}\n"
    )

    with pytest.raises(ConfigError) as caught:
        bench(tmp_path / "p.yaml")

    for fault in (
        "unknown key 'stores'. Did you mean 'store'?",
        "give either",
        "tokenizer must",
        "'seq_length'?",
    ):
        assert fault in str(caught.value)
