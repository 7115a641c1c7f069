"""Vocabularies in Hugging Face's form: ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``.

What a ``tokenizer.json`` says of normal forms, splitting, merging and decoding is done by the
package ``tokenizers``; only its added tokens are ours, so that text is never one of them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from mmdata._tools.options import checked
from mmdata._tools.requirements import load_optional
from mmdata.errors import TokenError
from mmdata.tokenizers._text import check_text

__all__ = ["HuggingFaceTokenizer", "byte_letters", "describe_bpe", "rank_lines"]

_NEEDED_BY: Final = "a tokenizer in Hugging Face's form"


class HuggingFaceTokenizer:
    """A ``tokenizer.json``, whichever model it describes.

    Its control tokens are those that it adds, and ``added``, by which a family names those that it
    counts on: names that the file lacks follow its last id in order.
    """

    @checked
    def __init__(self, content: bytes, *, path: str | Path = "", added: Sequence[str] = ()) -> None:
        described = _parse(content, path)
        tokens = described.get("added_tokens") or []
        self._special = {str(token["content"]): int(token["id"]) for token in tokens}

        # Without added tokens none can be found in a text, and nothing is put around one.
        plain = {**described, "added_tokens": [], "post_processor": None}
        self._plain = _build(plain, path)
        following: int = 1 + max([self._plain.get_vocab_size() - 1, *self._special.values()])
        for name in added:
            if name not in self._special:
                self._special[name] = following
                following += 1
        self._size = following
        self._names = {token: name for name, token in self._special.items()}
        marked = [_added(token, name) for token, name in sorted(self._names.items())]
        self._marked = _build({**plain, "added_tokens": marked}, path)

    @property
    def special(self) -> Mapping[str, int]:
        """The added tokens."""
        return self._special

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return self._size

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``, none of them an added token."""
        ids: list[int] = self._plain.encode(check_text(text)).ids
        return ids

    def encode_marked(self, text: str) -> list[int]:
        """Return the ids of ``text`` that we wrote, in which the names of added tokens are these
        tokens; never for text from a user.
        """
        ids: list[int] = self._marked.encode(check_text(text)).ids
        return ids

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the ids of each text."""
        return [each.ids for each in self._plain.encode_batch(list(map(check_text, texts)))]

    @checked
    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Return the text of ``ids``; bytes that are no UTF-8 become U+FFFD."""
        return "".join(self._decode(ids, skip_special))

    def _decode(self, ids: Sequence[int], skip_special: bool) -> Iterator[str]:
        for special, run in groupby(map(int, ids), self._names.__contains__):
            if not special:
                yield self._plain.decode(list(run), skip_special_tokens=False)
            elif not skip_special:
                yield from map(self._names.__getitem__, run)


def _parse(content: bytes, path: str | Path) -> dict[str, Any]:
    try:
        described = json.loads(content)
    except ValueError as error:
        raise TokenError(f"{path} is not JSON: {error}") from error
    if not isinstance(described, dict) or not isinstance(described.get("model"), dict):
        raise TokenError(f"{path} is no tokenizer.json: it has no 'model'")
    return described


def _build(described: Mapping[str, Any], path: str | Path) -> Any:
    tokenizers = load_optional("tokenizers", needed_by=_NEEDED_BY)
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(described))
    except Exception as error:  # tokenizers raises nothing narrower
        raise TokenError(f"{path} is no tokenizer.json that is understood: {error}") from error


def _added(token: int, name: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token, "content": name, **flags, "special": True}


@checked
def describe_bpe(vocab: bytes, merges: bytes, *, pattern: str, path: str | Path) -> bytes:
    """Return the ``tokenizer.json`` of byte-level BPE in normal form C, from the contents of
    ``vocab.json`` and ``merges.txt``; ``pattern`` cuts text into words.

    Raises:
        TokenError: one of them is not what its name says.
    """
    try:
        ids = json.loads(vocab)
        lines = merges.decode().splitlines()
    except ValueError as error:
        raise TokenError(f"{path} or the merges.txt beside it cannot be read: {error}") from error

    # The first line may be a comment; `#` may begin a merge as well.
    pairs = [line for line in lines if line.strip() and not line.startswith("#version")]
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    bytes_only = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    described: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes_only]},
        "post_processor": None,
        "decoder": bytes_only,
        "model": {"type": "BPE", "vocab": ids, "merges": [line.split(" ") for line in pairs]},
    }
    return json.dumps(described).encode()


def rank_lines(vocab: Mapping[str, int]) -> bytes:
    """Return a byte-level vocabulary as tiktoken's text form has it, a line ``base64 rank`` for
    each token in order: the same for the same vocabulary, whichever form it was read from.

    Raises:
        TokenError: a token is not written in the alphabet of bytes.
    """
    alphabet = {letter: value for value, letter in byte_letters().items()}
    lines = []
    for token, rank in sorted(vocab.items(), key=lambda item: item[1]):
        try:
            raw = bytes(alphabet[letter] for letter in token)
        except KeyError as error:
            raise TokenError(f"the token {token!r} is not of a byte-level vocabulary") from error
        lines.append(base64.b64encode(raw) + b" %d\r\n" % rank)  # the published file has CRLF
    return b"".join(lines)


def byte_letters() -> dict[int, str]:
    """Return GPT-2's letters for bytes: printable Latin-1 is itself, the rest follows from 256."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in printable]
    return {value: chr(value) for value in printable} | {
        value: chr(256 + number) for number, value in enumerate(others)
    }
