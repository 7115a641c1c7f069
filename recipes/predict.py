"""Ask a model about a picture, a clip, or nothing but words.

    python -m recipes.predict CONFIG.yaml --video clip.avi --prompt "What happens?"
    model.weights=FILE python -m recipes.predict CONFIG.yaml --batch questions.jsonl
    generation.temperature=0.8 generation.top_k=50

A line of a batch is {"prompt": …, "image": FILE, "video": FILE, "history": [[question, answer],
…]}, of which only the prompt is needed. CONFIG.yaml may be the one that the model was fine-tuned
with.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jsonlines
import numpy as np
from numpy.typing import NDArray

from mmdata.errors import MMDataError
from mmdata.pipeline import Batch, Stream
from mmdata.schema import Conversation, Image, Media, Message, Part, Video, assistant, user
from mmdata.templates import Encoded, Template
from mmdata.templates.toolkit import with_limits
from mmdata.video import Limits
from models.generate import Generator, Prompt, Sampling
from models.lora import merge_lora
from models.model import VisionLanguageModel
from recipes import build
from recipes.config import TRAINING_ONLY, Generation, PredictConfig, read
from recipes.inputs import media_layout


@dataclass(frozen=True)
class Questions:
    """Conversations that end with a question (an answer after it is not looked at),
    as a stream reads them.
    """

    conversations: Sequence[Conversation]
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.conversations)

    def located(self, index: int) -> Conversation:
        """A conversation whose media can be opened."""
        return self.conversations[index]


class Asking:
    """A template that encodes prompts,
    so that they come the very way that training samples come.
    """

    def __init__(self, template: Template) -> None:
        self.template = template

    def encode(self, conversation: Conversation) -> Encoded:
        """All up to the answer that is wanted."""
        return self.template.prompt(conversation)

    def with_limits(self, limits: Limits) -> Asking:
        """The same, of a template that reads files under ``limits``."""
        return Asking(with_limits(self.template, limits))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.template, name)


def question(record: Mapping[str, Any], number: int = 0) -> Conversation:
    """The conversation of a line of a batch; its picture or clip goes to the first question.

    Raises:
        KeyError: if there is no prompt.
    """
    media = tuple(
        Media(kind, path=str(record[kind])) for kind in ("image", "video") if record.get(kind)
    )
    shown: tuple[Part, ...] = tuple(
        Image(n) if one.type == "image" else Video(n) for n, one in enumerate(media)
    )
    messages: list[Message] = []
    for asked, answered in record.get("history") or ():
        messages += [user(asked), assistant(answered)]
    messages.append(user(record["prompt"]))
    first = messages[0]
    messages[0] = user(*shown, *first.content)
    return Conversation(f"question {number}", tuple(messages), media)


def answers(
    model: VisionLanguageModel,
    template: Template,
    conversations: Sequence[Conversation],
    generation: Generation,
    batch_size: int = 1,
) -> Iterator[list[int]]:
    """The answer to each conversation, as ids without the stop token;
    the last one may be asked again to fill a batch.

    Raises:
        SampleError: for a question that cannot be encoded, or that leaves no room for an answer.
    """
    sampling = Sampling(generation.temperature, generation.top_k, generation.top_p)
    generator = Generator(model, batch_size, generation.length)
    stream = Stream(
        Questions(conversations),
        # All but `encode` is the template's own, by `__getattr__`.
        cast("Template", Asking(template)),
        seq_length=generation.length - generation.max_new_tokens,
        batch_size=batch_size,
        shuffle=False,
        drop_last=False,
        dynamic=True,
    )

    for number, batch in enumerate(stream):
        found = generator.generate(
            prompt(batch),
            generation.max_new_tokens,
            template.stop_ids,
            sampling,
            generation.seed + number,
        )
        yield from found[: batch_size - batch.repeated]


def prompt(batch: Batch) -> Prompt:
    """A batch of encoded prompts as generation wants them."""
    media, segments = (
        cast("NDArray[np.int32]", batch[name]) for name in ("media_index", "segment_ids")
    )
    shown = bool((media >= 0).any())
    return Prompt(
        input_ids=np.asarray(batch["input_ids"]),
        lengths=np.asarray((segments > 0).sum(1)),
        position_ids=np.asarray(batch["position_ids"]),
        pixel_values=np.asarray(batch["pixel_values"]) if shown else None,
        media_index=np.asarray(batch["media_index"]) if shown else None,
        media_layout=media_layout(batch) if shown else None,
    )


def predict(
    config: PredictConfig, records: Sequence[Mapping[str, Any]], batch_size: int = 1
) -> Iterator[str]:
    """The answer to each record in words."""
    build.start_mindspore(config.device, config.graph)
    tokenizer = build.build_tokenizer(config.model.family, config.tokenizer)
    template = build.build_template(config.model.family, tokenizer, config.template)
    model = build.build_model(config.model, tokenizer.vocab_size)
    if config.model.adapter is not None:
        build.add_adapter(model, config.model.adapter)
    if config.merge:
        merge_lora(model)
    conversations = [question(record, number) for number, record in enumerate(records)]
    for ids in answers(model, template, conversations, config.generation, batch_size):
        yield tokenizer.decode(ids, skip_special=True).strip()


def arguments(line: list[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a YAML of recipes/configs")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="values that go before the YAML's"
    )
    parser.add_argument("--prompt", help="the question")
    parser.add_argument("--image", help="a picture to ask about")
    parser.add_argument("--video", help="a clip to ask about")
    parser.add_argument(
        "--history",
        type=json.loads,
        metavar="JSON",
        help='earlier turns: [["question", "answer"], …]',
    )
    parser.add_argument(
        "--batch", type=Path, help="questions as JSON Lines, instead of the options above"
    )
    parser.add_argument(
        "--batch-size", type=int, default=1, help="how many questions are answered together"
    )
    options = parser.parse_intermixed_args(line)
    if (options.batch is None) == (options.prompt is None):
        parser.error("give either --prompt or --batch")

    return options


def main(line: list[str] | None = None) -> int:
    """Answer from a shell, an answer a line of JSON for a batch; the exit code."""
    options = arguments(line)
    names = ("prompt", "image", "video", "history")
    records = [{name: getattr(options, name) for name in names}]
    if options.batch is not None:
        with jsonlines.open(options.batch) as lines:
            records = list(lines.iter(skip_empty=True))

    try:
        config = read(PredictConfig, options.config, options.overrides, ignore=TRAINING_ONLY)
        for record, answer in zip(
            records, predict(config, records, options.batch_size), strict=True
        ):
            if options.batch is None:
                print(answer, flush=True)
            else:
                jsonlines.Writer(sys.stdout, flush=True).write({**record, "answer": answer})
    except MMDataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    return 0


if __name__ == "__main__":
    sys.exit(main())
