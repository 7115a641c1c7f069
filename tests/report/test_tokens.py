from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.report.tokens import color_tokens, conversation_tokens, spell_tokens
from mmdata.schema import Media
from tests.templates.families import FAMILIES, Family, pictures, said
from tests.vocabularies import KINDS, small

every_family = pytest.mark.parametrize("family", FAMILIES, ids=str)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(words=st.lists(st.sampled_from(["the", "cat", "你好", "😀", " ", "Ω"]), max_size=8))
def test_the_texts_of_tokens_join_to_the_text_of_all(kind: str, words: list[str]) -> None:
    tokenizer = small(kind)
    ids = tokenizer.encode("a" + "".join(words))

    found = list(spell_tokens(tokenizer, ids))

    assert "".join(text for _, text in found) == tokenizer.decode(ids)
    assert sum(count for count, _ in found) == len(ids)


@every_family
def test_what_is_trained_on_is_green_and_nothing_else(family: Family) -> None:
    template = family.template(**dict(family.answers_only))

    text = conversation_tokens(said("the cat sat"), template)

    green = "".join(
        text.plain[span.start : span.end] for span in text.spans if "green" in str(span.style)
    )
    assert "the cat sat" in green
    assert "What?" not in green
    assert "What?" in text.plain or "plain" in str(family)


@pytest.mark.slow
@every_family
@settings(max_examples=20)
@given(data=st.data())
def test_a_slot_is_said_once_with_its_length(family: Family, data: st.DataObject) -> None:
    template = family.template()
    encoded = template.encode(said("Yes.", "What?", data.draw(pictures(family))))

    text = color_tokens(encoded, template.tokenizer)

    slots = [text.plain[span.start : span.end] for span in text.spans if "blue" in str(span.style)]
    assert slots == [f"[medium 0: {slot.length} tokens]" for slot in encoded.slots]


def test_a_prompt_has_no_green() -> None:
    family = FAMILIES[0]

    text = conversation_tokens(
        said("Yes.", "What?", Media("image", "a.jpg")), family.template(), prompt=True
    )

    assert not any("green" in str(span.style) for span in text.spans)
    assert "Yes." not in text.plain
