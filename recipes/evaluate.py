r"""Answer what was held out, and score the answers beside the references.

    python -m recipes.evaluate CONFIG.yaml --metric accuracy data.evaluate=stores/rwf \
        data.evaluate_split=val model.weights=FILE --answers answers.jsonl

CONFIG.yaml may be the one that the model was fine-tuned with: of its data, `evaluate` (else
`train`) and `evaluate_split` are read. The reference of a row is its last answer. The metrics are
those of `recipes.scores`: exact, accuracy, iou, seconds. The mean over all rows is printed as JSON,
and for accuracy that of each reference label; a row that cannot be answered counts as 0 and is
counted. `--answers` takes a line of JSON a row: id, answer, reference, score, or error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonlines

from mmdata.errors import ConfigError, MMDataError
from mmdata.schema import Conversation
from models.lora import merge_lora
from models.parallel import WHOLE, ModelGroup
from recipes import build, heartbeat
from recipes.config import Data, FinetuneConfig, PredictConfig, read
from recipes.defaults import generation_of
from recipes.predict import answers_or_faults
from recipes.questions import written
from recipes.scores import SCORES, Parts, Score, label_of


@dataclass(frozen=True)
class EvaluateConfig(PredictConfig):
    """All of an evaluation: a prediction, and the data to answer."""

    data: Data = field(default_factory=Data)


TRAINING_ONLY = frozenset(FinetuneConfig.__dataclass_fields__) - frozenset(
    EvaluateConfig.__dataclass_fields__
)


@dataclass(frozen=True)
class Row:
    """A row of the held-out data, answered: `said` is None where `fault` says why."""

    id: str
    reference: Parts
    said: Parts | None
    fault: str | None
    score: float


def evaluate(
    config: EvaluateConfig, score: Score, batch_size: int = 1, group: ModelGroup = WHOLE
) -> Iterator[Row]:
    """The rows in order, each with its score; `group` as `recipes.predict.predict` has it.

    Raises:
        ConfigError: if a row has no answer to compare with.
    """
    build.start_mindspore(config.device, config.graph, config.device_id)
    build.check_model_group(config.parallel, group)
    tokenizer = build.build_tokenizer(config.model.family, config.tokenizer)
    template = build.build_template(config.model.family, tokenizer, config.template)
    rows = held_out_rows(config.data)
    references = [last_answer(row) for row in rows]
    model = build.build_model(config.model, tokenizer.vocab_size, group=group)
    if config.model.adapter is not None:
        build.add_adapter(model, config.model.adapter)
    if config.merge:
        merge_lora(model)

    found = answers_or_faults(model, template, rows, config.generation, batch_size)
    for row, reference, one in zip(rows, references, found, strict=True):
        if isinstance(one, str):
            yield Row(row.id, reference, None, one, 0.0)
            continue
        said = template.parse_answer(one)
        yield Row(row.id, reference, said, None, score(said, reference))


def held_out_rows(data: Data) -> list[Conversation]:
    """The conversations to answer."""
    samples = build.open_samples(data.evaluate or data.train, data.evaluate_split, data.seed)
    return [samples.located(number) for number in range(len(samples))]


def last_answer(row: Conversation) -> Parts:
    """What a row says at its end.

    Raises:
        ConfigError: if that is no answer.
    """
    if not row.messages or row.messages[-1].role != "assistant":
        raise ConfigError(f"{row.id!r} ends with no answer, so there is nothing to compare with")
    return row.messages[-1].content


def summarise(metric: str, rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of an evaluation."""
    figures: dict[str, Any] = {
        "metric": metric,
        "rows": len(rows),
        "not_answered": sum(row.fault is not None for row in rows),
        "score": sum(row.score for row in rows) / max(1, len(rows)),
    }
    if metric == "accuracy":
        labels = defaultdict(list)
        for row in rows:
            labels[label_of(row.reference)].append(row.score)
        figures["labels"] = {
            label: {"rows": len(found), "score": sum(found) / len(found)}
            for label, found in sorted(labels.items())
        }
    return figures


def line_of(row: Row) -> dict[str, Any]:
    """A row as a line of JSON."""
    said = {"error": row.fault} if row.said is None else {"answer": written(row.said)}
    return {"id": row.id, **said, "reference": written(row.reference), "score": row.score}


def arguments(line: list[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a YAML of recipes/configs")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="values that go before the YAML's"
    )
    parser.add_argument("--metric", choices=SCORES, default="exact", help="how answers are scored")
    parser.add_argument("--answers", type=Path, help="where to write a line of JSON a row")
    parser.add_argument(
        "--batch-size", type=int, default=1, help="how many questions are answered together"
    )
    return parser.parse_intermixed_args(line)


def main(line: list[str] | None = None) -> int:
    """Evaluate from a shell; the exit code, 1 if a row was not answered."""
    options = arguments(line)
    heartbeat.begin()
    try:
        config = read(
            EvaluateConfig,
            options.config,
            options.overrides,
            ignore=TRAINING_ONLY,
            below=generation_of,
        )
        rows, group = [], build.join_model_group(config)
        speaks = group.rank == 0
        for row in evaluate(config, SCORES[options.metric], options.batch_size, group):
            rows.append(row)
            heartbeat.beat(len(rows))
            if options.answers is not None and speaks:
                with jsonlines.open(options.answers, "w" if len(rows) == 1 else "a") as lines:
                    lines.write(line_of(row))
    except MMDataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    figures = summarise(options.metric, rows)
    if speaks:
        print(json.dumps(figures))
    return 1 if figures["not_answered"] else 0


if __name__ == "__main__":
    sys.exit(main())
