r"""Ask a model about a picture, a clip, or nothing but words.

    python -m recipes.predict CONFIG.yaml --video clip.avi --prompt "What happens?"
    model.weights=FILE python -m recipes.predict CONFIG.yaml --batch questions.jsonl
    generation.temperature=0.8 generation.top_k=50
    python -m recipes.predict CONFIG.yaml --store STORE --split val --output answers.jsonl
    python -m recipes.launch --processes 8 predict CONFIG.yaml --batch questions.jsonl \
        --output answers.jsonl
    python -m recipes.launch --processes 2 predict CONFIG.yaml parallel.model=2 --prompt "…"

A line of a batch is {"prompt": …, "image": FILE, "video": FILE, "history": [[question, answer],
…]}, of which only the prompt is needed; `images` and `videos` are lists of files. Or it is
{"messages": […], "images": […]}, as the format `messages` reads them. A row of a store is answered
in place of its last answer. CONFIG.yaml may be the one that the model was fine-tuned with.

An answer is a line of JSON with the `position` and the `id` of its question and, where the input
has one, the `reference`. With --output it goes to a file, and a run that was ended goes on where
that ends; several processes share the questions, or, with `parallel.model=M`, each M of them hold
one model together and share with the others. What is drawn for a question hangs on the seed and its
`id` (or, without one, on what it says), not on its place or its batch.

A line that cannot be answered (too long, a file that is missing or damaged) comes back with an
`error` in place of the `answer`; exit code 1 says that there was one.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias, cast

import jsonlines
import numpy as np
from numpy.typing import NDArray

from mmdata._tools.paths import is_url
from mmdata.errors import ConfigError, MediaError, MMDataError, StorageError
from mmdata.pipeline import Batch, Stream
from mmdata.pipeline.stream import OnError
from mmdata.schema import Conversation, Media, replace
from mmdata.storage import MediaCache, fetch
from mmdata.templates import Encoded, Template
from mmdata.templates.toolkit import with_limits
from mmdata.tokenizers import Tokenizer
from mmdata.video import Limits
from models.generate import Generator, Prompt, Sampling
from models.lora import merge_lora
from models.model import VisionLanguageModel
from models.parallel import WHOLE, ModelGroup
from recipes import build, dry, heartbeat
from recipes.answer_file import AnswerFile, Share
from recipes.config import TRAINING_ONLY, Generation, PredictConfig, read
from recipes.defaults import generation_of
from recipes.inputs import media_layout
from recipes.questions import Question, question_of, read_questions, row_questions

# Told the row and the answer so far: whether it is complete.
Ended: TypeAlias = Callable[[int, Sequence[int]], bool]


@dataclass(frozen=True)
class Remote:
    """Whether pictures and clips are read from the web, by whoever writes the questions; `hosts`
    are the machines of this network that may be asked too.
    """

    allowed: bool = False
    hosts: tuple[str, ...] = ()

    def fetch(self, one: Media) -> Media:
        """The medium with its bytes, if it is behind a URL.

        Raises:
            MediaError: if it may not be read, or does not come within a minute and 64 MB.
        """
        if one.path is None or not is_url(one.path):
            return one
        if not self.allowed:
            raise MediaError(
                f"{one.path} is a URL, which is read with --allow-remote alone",
                path=one.path,
                reason="remote_media",
            )
        try:
            return replace(one, path=None, bytes=fetch(one.path, hosts=self.hosts))
        except StorageError as error:
            raise MediaError(str(error), path=one.path, reason="remote_media") from error


@dataclass(frozen=True)
class Questions:
    """Conversations that end with a question (an answer after it is not looked at),
    as a stream reads them.
    """

    conversations: Sequence[Conversation]
    remote: Remote
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.conversations)

    def located(self, index: int) -> Conversation:
        """A conversation whose media can be opened.

        Raises:
            MediaError: for one behind a URL that may not be read, or is not there.
        """
        conversation = self.conversations[index]
        if not any(one.path is not None and is_url(one.path) for one in conversation.media):
            return conversation
        return replace(conversation, media=tuple(map(self.remote.fetch, conversation.media)))


class Asking:
    """A template that encodes prompts,
    so that they come the very way that training samples come.
    """

    def __init__(self, template: Template) -> None:
        self.template = template

    def encode(self, conversation: Conversation) -> Encoded:
        """All up to the answer that is wanted."""
        return self.template.prompt(conversation)

    def with_limits(self, limits: Limits, *, cache: MediaCache | None = None) -> Asking:
        """The same, of a template that reads files under ``limits``."""
        return Asking(with_limits(self.template, limits, cache=cache))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.template, name)


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
        model,
        template,
        Questions(conversations, Remote()),
        generation,
        batch_size,
        on_error="raise",
    ):
        yield from found[: batch_size - batch.repeated]


def answers_or_faults(
    model: VisionLanguageModel,
    template: Template,
    conversations: Sequence[Conversation],
    generation: Generation,
    batch_size: int = 1,
    ended: Ended | None = None,
    remote: Remote = Remote(),
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
            Questions(numbered, remote),
            generation,
            batch_size,
            on_error="skip",
            seeds={
                own.id: seed_of(conversation.id)
                for own, conversation in zip(numbered, conversations, strict=True)
            },
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


def seed_of(name: str) -> int:
    """What is drawn for a question hangs on this: neither on its place nor on its batch."""
    return zlib.crc32(name.encode())


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
    seeds: Mapping[str, int] | None = None,
    left_out: Path | None = None,
    ended: Ended | None = None,
) -> Iterator[tuple[Batch, list[list[int]]]]:
    """The batches of questions, each with its answers; `seeds` by the ids of the questions, where
    these are not to be asked for them.
    """
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
        for batch in stream:
            names = [ids[0] for ids in batch.ids]
            drawn = [seed_of(name) if seeds is None else seeds[name] for name in names]
            found = generator.generate(
                prompt(batch),
                generation.max_new_tokens,
                (*template.stop_ids, *generation.stop_ids),
                sampling,
                [(generation.seed, one) for one in drawn],
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
    remote: Remote = Remote(),
) -> Iterator[str | Fault]:
    """The answer to each record in words, or what is wrong with the record.

    Records are as `recipes.questions.question_of` takes them. `hear` is called with each piece of
    text as it is made, and goes with a single record. A `group` of processes holds the model
    together; each of them gives all answers.
    """
    questions = [question_of(record, number) for number, record in enumerate(records)]
    return answer_questions(config, questions, batch_size, hear, group, remote)


def answer_questions(
    config: PredictConfig,
    questions: Sequence[Question],
    batch_size: int = 1,
    hear: Callable[[str], object] | None = None,
    group: ModelGroup = WHOLE,
    remote: Remote = Remote(),
) -> Iterator[str | Fault]:
    """As `predict`, of questions."""
    build.start_mindspore(config.device, config.graph, config.device_id)
    build.check_model_group(config.parallel, group)
    tokenizer = build.build_tokenizer(config.model.family, config.tokenizer)
    template = build.build_template(config.model.family, tokenizer, config.template)
    model = build.build_model(config.model, tokenizer.vocab_size, group=group)
    if config.model.adapter is not None:
        build.add_adapter(model, config.model.adapter)
    if config.merge:
        merge_lora(model)

    so_far = TextSoFar(tokenizer, config.generation.stop, hear)
    found = answers_or_faults(
        model,
        template,
        [one.conversation for one in questions if one.conversation is not None],
        config.generation,
        batch_size,
        so_far if config.generation.stop or hear is not None else None,
        remote,
    )
    for one in questions:
        if one.fault is not None:
            yield Fault(one.fault)
            continue
        answer = next(found)
        yield Fault(answer) if isinstance(answer, str) else so_far.finish(answer)


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
    parser.add_argument("--store", type=Path, help="a store, or a mixture, whose rows are asked")
    parser.add_argument("--split", help="the split of --store; default: all rows")
    parser.add_argument(
        "--output", type=Path, help="where answers go; what is there already is not asked again"
    )
    parser.add_argument(
        "--allow-remote", action="store_true", help="read pictures and clips from http(s):// too"
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST",
        help="a machine of this network that may be read from",
    )
    options = parser.parse_intermixed_args(line)
    given = [name for name in ("prompt", "batch", "store") if getattr(options, name) is not None]
    if len(given) != 1:
        parser.error("give one of --prompt, --batch and --store")
    if options.stream and options.prompt is None:
        parser.error("--stream goes with --prompt")
    if options.output is not None and options.prompt is not None:
        parser.error("--output goes with --batch and --store")
    if options.split is not None and options.store is None:
        parser.error("--split goes with --store")

    return options


def questions_of(options: argparse.Namespace) -> list[Question]:
    """What the command line asks.

    Raises:
        MMDataError: if a store cannot be read.
    """
    if options.store is not None:
        return row_questions(build.open_samples(options.store, options.split, seed=0))
    if options.batch is not None:
        return read_questions(options.batch)
    names = ("prompt", "image", "video", "history")
    return [question_of({name: getattr(options, name) for name in names})]


# What a line of answers says of its own, besides what the question's line says.
OURS = frozenset({"position", "id", "answer", "error", "reference"})


def line_of(question: Question, answer: str | Fault) -> str:
    """An answer as a line of JSON: what the question's line said, and what was said to it."""
    line: dict[str, Any] = {"position": question.number, "id": question.id}
    line |= {name: value for name, value in question.record.items() if name not in OURS}
    line |= {"error": answer.text} if isinstance(answer, Fault) else {"answer": answer}
    if question.reference is not None:
        line["reference"] = question.reference
    return json.dumps(line, ensure_ascii=False) + "\n"


def main(line: list[str] | None = None) -> int:
    """Answer from a shell, an answer a line of JSON for a batch; the exit code."""
    options = arguments(line)
    heartbeat.begin()
    try:
        questions = questions_of(options)
        config = read(
            PredictConfig,
            options.config,
            options.overrides,
            ignore=TRAINING_ONLY,
            below=generation_of,
        )
        needs = dry.describe_job(config)
        if config.dry:
            print(needs)
            return 0
        if dry.device_memory(config) is not None and build.is_first():
            print(needs, file=sys.stderr)
        layout, group = build.join_processes(config)
        if layout.data > 1 and options.output is None:
            raise ConfigError(f"{layout.data} processes share the questions: give --output")
        faults = answer_to(options, config, questions, Share(layout.data_rank, layout.data), group)
    except dry.DoesNotFitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (MMDataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    if faults and options.prompt is None and group.rank == 0:
        print(f"{faults} of {len(questions)} questions were not answered", file=sys.stderr)
    return 1 if faults else 0


def answer_to(
    options: argparse.Namespace,
    config: PredictConfig,
    questions: Sequence[Question],
    share: Share,
    group: ModelGroup,
) -> int:
    """Say the answers, or write them; how many of the questions have none.

    Raises:
        ConfigError: if `--output` holds the answers to other questions.
    """
    speaks = group.rank == 0
    hear = partial(print, end="", flush=True) if options.stream and speaks else None
    remote = Remote(options.allow_remote or bool(options.allow_host), tuple(options.allow_host))
    file = None if options.output is None else AnswerFile(options.output, share)
    asked = questions if file is None else file.open_questions(questions)
    answers = answer_questions(config, asked, options.batch_size, hear, group, remote)

    faults = 0
    with nullcontext(sys.stdout) if file is None or not speaks else file.append() as lines:
        # Nothing is built where there is nothing to ask.
        answered = zip(asked, answers if asked else (), strict=True)
        for step, (one, answer) in enumerate(answered, 1):
            heartbeat.beat(step)
            faults += isinstance(answer, Fault)
            if not speaks:
                continue
            if options.prompt is None:
                lines.write(line_of(one, answer))
                lines.flush()
            elif isinstance(answer, Fault):
                print(f"error: {answer.text}", file=sys.stderr)
            else:
                # With `--stream` it stands there already, but for the end of its line.
                print("" if options.stream else answer, flush=True)

    if file is None:
        return faults
    file.join_when_all_are_done(questions, lambda: heartbeat.beat(len(asked)))
    return file.count_faults()


if __name__ == "__main__":
    sys.exit(main())
