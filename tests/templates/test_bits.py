"""Texts that stand side by side in a turn: one string to the tokenizer, a fate for each token."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mmdata.templates._texts import encode_texts
from mmdata.templates.toolkit import Bit, Run
from tests.vocabularies import small

ENCODE = small("qwen2").encode
# "th", "the", " th" and " the" are tokens of their own, that borders may cut.
pieces = st.lists(st.sampled_from(["t", "th", "e", "he", " ", "\n", "é", ""]), max_size=2).map(
    "".join
)
bits = st.lists(st.builds(Bit, pieces, st.booleans(), st.just(False)), max_size=6)
leads = st.sampled_from(["", "<1.0 seconds>", "e", "he", " the"])


def ids_of(runs: list[Run]) -> list[int]:
    return [token for run in runs for token in run.ids]


@given(bits=bits, lead=leads)
def test_texts_are_tokenized_as_one_string(bits: list[Bit], lead: str) -> None:
    runs, rest = encode_texts(bits, ENCODE, lead=lead)

    text = "".join(str(bit.piece) for bit in bits)
    assert [*ids_of(runs), *rest] == ENCODE(text + lead)


@given(bits=bits)
def test_a_token_is_trained_as_the_text_in_which_it_ends(bits: list[Bit]) -> None:
    runs, _ = encode_texts(bits, ENCODE)

    fates = [bit.trained for bit in bits for _ in str(bit.piece).encode()]
    stop = 0
    for run in runs:
        for token in run.ids:
            stop += 1 if token < 256 else len(small("qwen2").decode([token]))
            assert run.trained == fates[stop - 1]
    assert stop == len(fates)


@given(texts=st.lists(pieces), trained=st.booleans())
def test_neighbours_of_one_fate_are_one_run(texts: list[str], trained: bool) -> None:
    runs, _ = encode_texts([Bit(text, trained) for text in texts], ENCODE)

    assert runs == ([Run(ENCODE("".join(texts)), trained)] if any(texts) else [])


@given(before=bits, after=bits, apart=pieces, trained=st.booleans(), lead=leads)
def test_what_is_apart_is_tokenized_alone(
    before: list[Bit], after: list[Bit], apart: str, trained: bool, lead: str
) -> None:
    first = Bit(apart, trained, apart=True)

    runs, rest = encode_texts([*before, first, *after], ENCODE, lead=lead)

    ahead, _ = encode_texts(before, ENCODE)
    behind, behind_rest = encode_texts([Bit(apart, trained), *after], ENCODE, lead=lead)
    assert runs == ahead + behind
    assert rest == behind_rest


@given(bits=bits, lead=leads.filter(bool))
def test_the_lead_of_a_medium_has_the_token_that_it_shares(bits: list[Bit], lead: str) -> None:
    runs, rest = encode_texts(bits, ENCODE, lead=lead)

    alone = ENCODE("".join(str(bit.piece) for bit in bits))
    assert ids_of(runs) == alone[: len(ids_of(runs))]
    assert ids_of(runs) == alone or alone[len(ids_of(runs))] != rest[0]
