"""Small vocabularies of bytes, in the form of each family."""

from __future__ import annotations

import pytest

import mmdata.templates
from mmdata.errors import ConfigError
from mmdata.schema import Conversation, assistant, user
from models import FAMILIES
from recipes.build import build_tokenizer
from recipes.config import Tokenizer
from recipes.vocabularies import byte_tokenizer

pytestmark = pytest.mark.mindspore


def test_every_family_that_has_a_template_has_a_model() -> None:
    assert list(FAMILIES) == mmdata.templates.registry.names()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_reads_text_by_a_vocabulary_of_bytes_of_its_kind(family: str) -> None:
    tokenizer = build_tokenizer(family, Tokenizer("bytes"))
    template = mmdata.templates.make(family, tokenizer)

    sample = template.encode(Conversation("c", (user("What?"), assistant("A cat, 1 of 2."))))

    answer = tokenizer.decode(sample.labels[sample.labels >= 0].tolist(), skip_special=True)
    assert "A cat, 1 of 2." in answer
    assert sample.input_ids.max() < tokenizer.vocab_size


def test_a_kind_without_a_form_of_bytes_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'llama'\. Did you mean 'llama[23]'\?.*chatglm"):
        byte_tokenizer("llama")
