r"""Ask a model about a picture, a clip, or nothing but words.

    python -m recipes.predict CONFIG.yaml --video clip.avi --prompt "What happens?"
    model.weights=FILE python -m recipes.predict CONFIG.yaml --batch questions.jsonl
    generation.temperature=0.8 generation.top_k=50
    msrun --worker_num=2 --local_worker_num=2 --join=True python -m recipes.predict CONFIG.yaml \
        --prompt "…" parallel.model=2

A line of a batch is {"prompt": …, "image": FILE, "video": FILE, "history": [[question, answer],
…]}, of which only the prompt is needed. CONFIG.yaml may be the one that the model was fine-tuned
with.

A line that cannot be answered (too long, a file that is missing or damaged) comes back with an
`error` in place of the `answer`; exit code 1 says that there was one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias, cast

import jsonlines
import numpy as np
from numpy.typing import NDArray

from mmdata.errors import ConfigError, MMDataError
from mmdata.pipeline import Batch, Stream
from mmdata.pipeline.stream import OnError
from mmdata.schema import Conversation, Image, Media, Message, Part, Video, assistant, replace, user
from mmdata.templates import Encoded, Template
from mmdata.templates.toolkit import with_limits
from mmdata.tokenizers import Tokenizer
from mmdata.video import Limits
from models.generate import Generator, Prompt, Sampling
from models.lora import merge_lora
from models.model import VisionLanguageModel
from models.parallel import WHOLE, ModelGroup
from recipes import build
from recipes.config import TRAINING_ONLY, Generation, PredictConfig, read
from recipes.defaults import generation_of
from recipes.inputs import media_layout

# Told the row and the answer so far: whether it is complete.
Ended: TypeAlias = Callable[[int, Sequence[int]], bool]


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
    for batch, found in _generate(
        model, template, Questions(conversations), generation, batch_size, on_error="raise"
    ):
        yield from found[: batch_size - batch.repeated]


def answers_or_faults(
    model: VisionLanguageModel,
    template: Template,
    conversations: Sequence[Conversation],
    generation: Generation,
    batch_size: int = 1,
    ended: Ended | None = None,
) -> Iterator[list[int] | str]:
    """As `answers`, but a question that cannot be answered costs itself and not the others: what is
    wrong with it comes in its place.
    """
    numbered = [
        replace(conversation, id=f"{number}: {conversation.id}")
        for number, conversation in enumerate(conversations)
    ]
    places = {conversation.id: number for number, conversation in enumerate(numbered)}
    answered: dict[int, list[int]] = {}
    told = 0
    with TemporaryDirectory() as folder:
        left_out = Path(folder) / "left_out.jsonl"
        batches = _generate(
            model,
            template,
            Questions(numbered),
            generation,
            batch_size,
            on_error="skip",
            left_out=left_out,
            ended=ended,
        )
        for batch, found in batches:
            for ids, answer in zip(batch.ids[: batch_size - batch.repeated], found, strict=False):
                answered[places[ids[0]]] = answer
            # A batch has the next questions in order, so that those before its last one which it
            # does not have cannot be answered.
            faults, last = _read_faults(left_out), max(answered)
            while told <= last:
                yield answered.pop(told) if told in answered else faults.get(told, TOO_LONG)
                told += 1
        faults = _read_faults(left_out)
        for number in range(told, len(numbered)):
            yield faults.get(number, TOO_LONG)


TOO_LONG = "left out by the template as too long"


def _read_faults(file: Path) -> dict[int, str]:
    """What is wrong with the questions that a stream has left out, by their numbers."""
    if not file.exists():
        return {}
    with jsonlines.open(file) as lines:
        return {line["row"]: line["detail"] for line in lines}


def _generate(
    model: VisionLanguageModel,
    template: Template,
    questions: Questions,
    generation: Generation,
    batch_size: int,
    *,
    on_error: OnError,
    left_out: Path | None = None,
    ended: Ended | None = None,
) -> Iterator[tuple[Batch, list[list[int]]]]:
    """The batches of questions, each with its answers."""
    sampling = Sampling(
        generation.temperature, generation.top_k, generation.top_p, generation.repetition_penalty
    )
    generator = Generator(model, batch_size, generation.length)
    stream = Stream(
        questions,
        # All but `encode` is the template's own, by `__getattr__`.
        cast("Template", Asking(template)),
        seq_length=generation.length - generation.max_new_tokens,
        batch_size=batch_size,
        shuffle=False,
        drop_last=False,
        dynamic=True,
        on_error=on_error,
        on_error_limit=1.0,
        skipped=left_out,
    )

    try:
        for number, batch in enumerate(stream):
            found = generator.generate(
                prompt(batch),
                generation.max_new_tokens,
                (*template.stop_ids, *generation.stop_ids),
                sampling,
                generation.seed + number,
                ended,
            )
            yield batch, found
    except ConfigError:
        # No batch at all is the stream's fault, unless every question was left out.
        if left_out is None or len(_read_faults(left_out)) < len(questions):
            raise


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


class TextSoFar:
    """What a model says while it says it: ends answers at a text, and hands on what is new."""

    def __init__(
        self, tokenizer: Tokenizer, stop: Sequence[str], hear: Callable[[str], object] | None = None
    ) -> None:
        self.tokenizer, self.stop, self.hear = tokenizer, stop, hear
        self.heard = 0  # characters handed on, of the one answer that is listened to

    def text(self, ids: Sequence[int]) -> tuple[str, bool]:
        """The text of an answer before any stop text, and whether there is one."""
        text = self.tokenizer.decode(ids, skip_special=True)
        places = [text.find(stop) for stop in self.stop if stop in text]
        return (text[: min(places)], True) if places else (text, False)

    def __call__(self, row: int, ids: Sequence[int]) -> bool:
        """Take in an answer so far; whether a stop text has ended it."""
        text, ended = self.text(ids)
        if self.hear is not None:
            # What may yet become a stop text, or another character, is held back.
            held = 0 if ended else max([self._held(text, stop) for stop in self.stop], default=0)
            sure = text[: len(text) - held].rstrip("\ufffd")
            self._hand_on(sure)
        return ended

    def finish(self, ids: Sequence[int]) -> str:
        """The whole answer, of which the rest is handed on."""
        text, _ = self.text(ids)
        if self.hear is not None:
            self._hand_on(text)
        return text.strip()

    def _hand_on(self, text: str) -> None:
        if self.hear is not None and len(text) > self.heard:
            self.hear(text[self.heard :])
            self.heard = len(text)

    def _held(self, text: str, stop: str) -> int:
        """How many characters at the end of `text` a stop text may begin with."""
        return max(size for size in range(len(stop)) if text.endswith(stop[:size]))


def predict(
    config: PredictConfig,
    records: Sequence[Mapping[str, Any]],
    batch_size: int = 1,
    hear: Callable[[str], object] | None = None,
    group: ModelGroup = WHOLE,
) -> Iterator[str | Fault]:
    """The answer to each record in words, or what is wrong with the record.

    `hear` is called with each piece of text as it is made, and goes with a single record. A `group`
    of processes holds the model together; each of them gives all answers.
    """
    build.start_mindspore(config.device, config.graph)
    build.check_model_group(config.parallel, group)
    tokenizer = build.build_tokenizer(config.model.family, config.tokenizer)
    template = build.build_template(config.model.family, tokenizer, config.template)
    model = build.build_model(config.model, tokenizer.vocab_size, group=group)
    if config.model.adapter is not None:
        build.add_adapter(model, config.model.adapter)
    if config.merge:
        merge_lora(model)
    conversations = [question(record, number) for number, record in enumerate(records)]
    so_far = TextSoFar(tokenizer, config.generation.stop, hear)
    ended = so_far if config.generation.stop or hear is not None else None
    for found in answers_or_faults(
        model, template, conversations, config.generation, batch_size, ended
    ):
        yield Fault(found) if isinstance(found, str) else so_far.finish(found)


@dataclass(frozen=True)
class Fault:
    """Why a question has no answer."""

    text: str


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
    parser.add_argument(
        "--stream", action="store_true", help="show the answer to --prompt as it is made"
    )
    options = parser.parse_intermixed_args(line)
    if options.stream and options.batch is not None:
        parser.error("--stream goes with --prompt")
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

    faults = 0
    try:
        config = read(
            PredictConfig,
            options.config,
            options.overrides,
            ignore=TRAINING_ONLY,
            below=generation_of,
        )
        group = build.join_model_group(config)
        speaks = group.rank == 0
        hear = partial(print, end="", flush=True) if options.stream and speaks else None
        answered = predict(config, records, options.batch_size, hear, group)
        for record, answer in zip(records, answered, strict=True):
            faults += isinstance(answer, Fault)
            if not speaks:
                continue
            if options.batch is not None:
                said = {"error": answer.text} if isinstance(answer, Fault) else {"answer": answer}
                jsonlines.Writer(sys.stdout, flush=True).write({**record, **said})
            elif isinstance(answer, Fault):
                print(f"error: {answer.text}", file=sys.stderr)
            else:
                # With `--stream` it stands there already, but for the end of its line.
                print("" if options.stream else answer, flush=True)
    except MMDataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    if faults and options.batch is not None and speaks:
        print(f"{faults} of {len(records)} questions were not answered", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
