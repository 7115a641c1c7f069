"""What a template is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from mmdata.schema import Conversation, Part

if TYPE_CHECKING:
    from mmdata.templates._encoded import Encoded
    from mmdata.tokenizers import Tokenizer

__all__ = ["Template"]


@runtime_checkable
class Template(Protocol):
    """How one model family reads a conversation; a frozen dataclass, so two alike read alike.

    Every family takes ``tokenizer``, ``max_length`` (tokens, None for no limit) and ``over_long``, see
    :func:`mmdata.templates._fit.fitted`; its own options are the fields of its class.
    """

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the family."""

    @property
    def pad_id(self) -> int:
        """The id that fills a batch after the end of a sequence."""

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The ids that end an answer."""

    def encode(self, conversation: Conversation) -> Encoded:
        """Return the conversation as a training sample.

        Raises:
            TokenError: the family cannot express it, or it is too long under ``over_long="error"``.
            DroppedSampleError: it is too long and left out, which the caller counts.
        """

    def prompt(self, conversation: Conversation) -> Encoded:
        """Return all up to the answer to the last user message, which the model is to give; nothing is trained on.

        Raises:
            TokenError: as :meth:`encode`, or the last message is not the user's.
        """

    def length(self, conversation: Conversation) -> int:
        """Return the number of tokens of the training sample before any cut."""

    def parse_answer(self, answer: str | Sequence[int]) -> tuple[Part, ...]:
        """Return the parts of an answer, given as text or as ids; boxes become regions, times become times."""
