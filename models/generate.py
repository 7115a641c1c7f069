"""Text generation with a key-value cache, greedy or sampled, the same for all families."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray

from models.cache import make_caches
from models.model import VisionLanguageModel


@dataclass(frozen=True)
class Sampling:
    """How to choose a token: temperature 0 takes the likeliest;
    top_k 0 and top_p 1 leave all tokens in the draw.

    `repetition_penalty` divides the positive logits of tokens that prompt or answer have already,
    and multiplies the negative ones (https://arxiv.org/abs/1909.05858); 1 changes nothing.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0


GREEDY = Sampling()


@dataclass(frozen=True)
class Prompt:
    """A batch of prompts as arrays, padded on the right;
    the first axis is the batch but for `pixel_values` and
    `media_layout`.

    `lengths` (batch,) counts what is not padding. The others are as `VisionLanguageModel.construct`
    has them.
    """

    input_ids: NDArray[Any]
    lengths: NDArray[Any]
    position_ids: NDArray[Any]
    pixel_values: NDArray[Any] | None = None
    media_index: NDArray[Any] | None = None
    media_layout: NDArray[Any] | None = None


class NextToken(nn.Cell):
    """The logits of the token after index `last` of each text."""

    def __init__(self, model: VisionLanguageModel) -> None:
        super().__init__(auto_prefix=False)  # the parameters keep their names
        self.model = model

    @property
    def compile_phase(self) -> str | None:
        """Which compiled graph runs."""
        found: str | None = nn.Cell.compile_phase.fget(self)
        return found

    @compile_phase.setter
    def compile_phase(self, value: str) -> None:
        # MindSpore sets it at each call, anew in each cell of the model: that cost as much as the
        # computing of a token by a small model.
        if value != self.compile_phase:
            nn.Cell.compile_phase.fset(self, value)

    def construct(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        segment_ids: Tensor | None,
        pixel_values: Tensor | None,
        media_index: Tensor | None,
        places: Tensor,
        reach: Tensor,
        prompt_length: Tensor,
        last: Tensor,
        media_layout: Tensor | None = None,
    ) -> Tensor:
        """(batch, vocabulary) float32."""
        hidden = self.model.hidden(
            input_ids,
            position_ids,
            segment_ids,
            pixel_values,
            media_index,
            (places, reach),
            prompt_length,
            media_layout,
        )
        index = ops.broadcast_to(last[:, None, None], (hidden.shape[0], 1, hidden.shape[2]))
        return self.model.logits(ops.gather_elements(hidden, 1, index))[:, 0].astype(ms.float32)


class Generator:
    """A model ready to answer `batch` prompts at a time,
    none longer than `length` tokens with its answer.

    What is compiled in graph mode has few shapes: prompts are padded to `bucket` tokens, or to
    twice, four times … as many, pictures (or patches) by `media_room`, and of the cache a new token
    reads so many slots too, so that its cost goes by what is in the cache and not by its length.

    The model is switched to evaluation and keeps its caches until `models.cache.drop_caches`.
    """

    def __init__(
        self, model: VisionLanguageModel, batch: int, length: int, bucket: int = 128
    ) -> None:
        model.set_train(False)
        make_caches(model, batch, length, model.dtype)
        self.batch, self.length, self.bucket = batch, length, bucket
        self.position_step = np.array(model.position_step, np.int32)
        self.next_token = NextToken(model)
        self.next_token.set_train(False)
        # Of one new token the only one is the last.
        self.first = Tensor(np.zeros(batch, np.int32))
        self.reaches: dict[int, Tensor] = {}

    def generate(
        self,
        prompt: Prompt,
        max_new_tokens: int,
        stop_ids: Collection[int] = (),
        sampling: Sampling = GREEDY,
        seed: int | Sequence[Sequence[int]] = 0,
        ended: Callable[[int, Sequence[int]], bool] | None = None,
    ) -> list[list[int]]:
        """The answer to each prompt:
        at most `max_new_tokens` ids, without the stop id that ended it.

        `ended` is told the row and its answer so far after each token, and whether it is complete
        comes back.
        """
        answers: list[list[int]] = [[] for _ in prompt.input_ids]
        open_answers = set(range(len(answers)))
        for tokens, _ in self.steps(prompt, max_new_tokens, sampling, seed):
            open_answers = {row for row in open_answers if tokens[row] not in stop_ids}
            for row in open_answers:
                answers[row].append(int(tokens[row]))
            if ended is not None:
                open_answers = {row for row in open_answers if not ended(row, answers[row])}
            if not open_answers:
                break
        return answers

    def steps(
        self,
        prompt: Prompt,
        max_new_tokens: int,
        sampling: Sampling = GREEDY,
        seed: int | Sequence[Sequence[int]] = 0,
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Token by token:
        the chosen ids (batch,) int32 and the logits (batch, vocabulary) they were chosen by.

        `seed` may be one for each prompt, whose answer then does not hang on its row.

        Raises:
            ValueError: if the prompts are not `batch` many, or prompt and answer may grow beyond
                `length`.
        """
        self._check(prompt, max_new_tokens)
        seeds = [(seed, row) for row in range(self.batch)] if isinstance(seed, int) else seed
        rngs = [np.random.default_rng(one) for one in seeds]
        lengths = Tensor(prompt.lengths.astype(np.int32))
        logits = self._read(prompt, lengths)
        positions = np.take_along_axis(
            prompt.position_ids, _at(prompt.lengths - 1, prompt.position_ids.ndim), -1
        )
        seen = np.zeros(logits.shape, bool)
        for row, length in enumerate(prompt.lengths):
            seen[row, prompt.input_ids[row, :length]] = True
        for done in range(max_new_tokens):
            tokens = choose_rows(logits, sampling, rngs, seen)
            seen[np.arange(len(tokens)), tokens] = True
            yield tokens, logits
            if done + 1 < max_new_tokens:
                positions = positions + self.position_step.reshape(-1, 1)
                slots = (prompt.lengths + done)[:, None]
                logits = self._step(tokens, positions, slots, lengths)

    def _check(self, prompt: Prompt, max_new_tokens: int) -> None:
        longest = int(prompt.lengths.max()) + max_new_tokens
        if len(prompt.input_ids) != self.batch:
            raise ValueError(
                f"{len(prompt.input_ids)} prompts for a generator of {self.batch}; "
                "fill up the batch"
            )
        if longest > self.length:
            raise ValueError(
                f"prompt and answer need {longest} tokens, the cache holds {self.length}; "
                "make it longer"
            )

    def _read(self, prompt: Prompt, lengths: Tensor) -> NDArray[Any]:
        """Fill the caches from the prompts;
        the logits (batch, vocabulary) of the first token of each answer.
        """
        width = self._room(int(prompt.lengths.max()))
        slots = np.broadcast_to(np.arange(width), (self.batch, width))
        inputs = (
            _widen(prompt.input_ids, width, 0),
            _widen(prompt.position_ids, width, 0),
            (slots < prompt.lengths[:, None]).astype(np.int32),
            _fill_up(prompt.pixel_values),
            None if prompt.media_index is None else _widen(prompt.media_index, width, -1),
            slots.astype(np.int32),
            np.arange(width, dtype=np.int32),
        )
        tensors = [None if array is None else Tensor(array) for array in inputs]
        layout = _fill_up(prompt.media_layout)
        places = None if layout is None else Tensor(layout)
        logits: NDArray[Any] = self.next_token(*tensors, lengths, lengths - 1, places).asnumpy()
        return logits

    def _step(
        self, tokens: NDArray[Any], positions: NDArray[Any], slots: NDArray[Any], lengths: Tensor
    ) -> NDArray[Any]:
        room = self._room(int(slots.max()) + 1)
        if room not in self.reaches:
            self.reaches[room] = Tensor(np.arange(room, dtype=np.int32))
        ids, positions, places = (
            Tensor(array.astype(np.int32)) for array in (tokens[:, None], positions, slots)
        )
        logits: NDArray[Any] = self.next_token(
            ids, positions, None, None, None, places, self.reaches[room], lengths, self.first
        ).asnumpy()
        return logits

    def _room(self, tokens: int) -> int:
        """The smallest of the lengths that are compiled which holds so many tokens."""
        room = self.bucket
        while room < tokens:
            room *= 2
        return min(room, self.length)


def media_room(count: int) -> int:
    """As how many pictures or patches so many are computed: at most an eighth more, so that between
    one power of two and the next there are eight sizes to compile.
    """
    step = 1 << max(0, count.bit_length() - 4)
    return -(-count // step) * step


def _fill_up(rows: NDArray[Any] | None) -> NDArray[Any] | None:
    """Rows of pictures, patches or their layout with zeros behind them, which no position names."""
    if rows is None:
        return None
    room = [(0, media_room(len(rows)) - len(rows))] + [(0, 0)] * (rows.ndim - 1)
    return np.pad(rows, room)


def _at(index: NDArray[Any], axes: int) -> NDArray[Any]:
    """One index a sample, shaped to pick from the last of `axes` axes."""
    return index.reshape(-1, *[1] * (axes - 1))


def _widen(array: NDArray[Any], width: int, fill: int) -> NDArray[Any]:
    """The last axis cut or padded to `width`, as int32."""
    array = array[..., :width]
    room = [(0, 0)] * (array.ndim - 1) + [(0, width - array.shape[-1])]
    return np.pad(array, room, constant_values=fill).astype(np.int32)


def choose_rows(
    logits: NDArray[Any],
    sampling: Sampling,
    rngs: Sequence[np.random.Generator],
    seen: NDArray[np.bool_],
) -> NDArray[Any]:
    """As `choose`, each row drawn by a generator of its own."""
    if sampling.temperature == 0:  # nothing is drawn
        return choose(logits, sampling, rngs[0], seen)
    rows = [
        choose(logits[row : row + 1], sampling, rng, seen[row : row + 1])
        for row, rng in enumerate(rngs)
    ]
    return np.concatenate(rows)


def choose(
    logits: NDArray[Any],
    sampling: Sampling,
    rng: np.random.Generator,
    seen: NDArray[np.bool_] | None = None,
) -> NDArray[Any]:
    """One token id a row, (batch,) int32, from logits (batch, vocabulary);
    `seen`, of that shape, marks the tokens that the text has already.
    """
    if seen is not None and sampling.repetition_penalty != 1:
        penalty = np.where(logits > 0, 1 / sampling.repetition_penalty, sampling.repetition_penalty)
        logits = np.where(seen, logits * penalty, logits)
    if sampling.temperature == 0:
        return np.asarray(logits.argmax(-1), np.int32)
    return np.array([_draw(row / sampling.temperature, sampling, rng) for row in logits], np.int32)


def _draw(logits: NDArray[Any], sampling: Sampling, rng: np.random.Generator) -> int:
    """A draw among the `top_k` likeliest tokens,
    of these the fewest that hold `top_p` of the probability.
    """
    order = np.argsort(-logits, kind="stable")[: sampling.top_k or None]
    weights = np.exp(logits[order] - logits[order[0]], dtype=np.float64)
    weights /= weights.sum()
    kept = int((weights.cumsum() - weights < sampling.top_p).sum()) or 1
    return int(rng.choice(order[:kept], p=weights[:kept] / weights[:kept].sum()))
