"""What the experiments share: a store of drawn conversations,
training on it, and answers to its held-out questions.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mmdata.schema import Conversation, Part
from mmdata.store.writer import Origin, StoreWriter
from recipes import build
from recipes.config import FinetuneConfig, Generation, read
from recipes.finetune import finetune
from recipes.predict import answers

HERE = Path(__file__).resolve().parent


def png(pixels: NDArray[Any]) -> bytes:
    """The PNG file of pixels (height, width, 3) uint8."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def write_store(path: Path, conversations: Iterable[Conversation]) -> Path:
    """Write a store of conversations made here."""
    with StoreWriter(
        path, sources=("drawn",), origin=Origin("drawn", {}), overwrite=True
    ) as writer:
        writer.write_conversations(conversations)
    return path


def train(name: str, store: Path, output: Path, *overrides: str) -> FinetuneConfig:
    """Train as `name`.yaml beside this file says; the configuration comes back."""
    line = [f"data.train={store}", f"run.output={output}", *overrides]
    config = read(FinetuneConfig, HERE / f"{name}.yaml", line)
    finetune(config)
    return config


def ask(
    config: FinetuneConfig,
    conversations: list[Conversation],
    max_new_tokens: int,
    batch_size: int = 32,
) -> list[tuple[Part, ...]]:
    """What the model that was trained says to the last question of each conversation."""
    tokenizer = build.build_tokenizer(config.model.family, config.tokenizer)
    template = build.build_template(config.model.family, tokenizer, config.template)
    lora, output = bool(config.lora.targets), config.run.output
    base = config.model.weights or output / "base.safetensors"
    weights = base if lora else output / "weights.safetensors"
    model = build.build_model(replace(config.model, weights=weights), tokenizer.vocab_size)
    if lora:
        build.add_adapter(model, output / "adapter.safetensors")
    generation = Generation(
        length=config.data.seq_length + max_new_tokens, max_new_tokens=max_new_tokens
    )
    found = answers(model, template, conversations, generation, batch_size)
    return [template.parse_answer(ids) for ids in found]
