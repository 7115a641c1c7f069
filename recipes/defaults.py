"""What a checkpoint says of how to generate, as values of our configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.checkpoint import read_metadata
from recipes.config import Generation

# Of these the names and meanings are ours too.
SAME = ("max_new_tokens", "repetition_penalty")

# What transformers takes where a file that samples does not say
# (https://huggingface.co/docs/transformers: GenerationConfig).
SAMPLED = {"temperature": 1.0, "top_k": 50, "top_p": 1.0}


def generation_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The section `generation` that the weights of a configuration call for, by the
    `generation_config.json` and, where that is silent, the `tokenizer_config.json` that
    convert_weights.py has put into their head; empty where they have none.
    """
    weights = (values.get("model") or {}).get("weights")
    if weights is None or not Path(weights).expanduser().is_file():
        return {}
    path = Path(weights).expanduser()
    head = read_metadata(path) if path.suffix == ".safetensors" else {}
    found: dict[str, Any] = {}
    if "tokenizer_config" in head:
        found |= of_tokenizer(json.loads(head["tokenizer_config"]))
    if "generation_config" in head:
        found |= from_hf(json.loads(head["generation_config"]))
    return {"generation": found} if found else {}


def of_tokenizer(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our values of a `tokenizer_config.json`: the id of its `eos_token`, at which an answer ends,
    and its `model_max_length`, beyond which no token has been seen, where it is less than ours. The
    rest of it is in the template of the family.
    """
    found: dict[str, Any] = {}
    limit = config.get("model_max_length")
    if limit is not None and limit < Generation().length:
        found["length"] = int(limit)

    end = config.get("eos_token")
    name = end["content"] if isinstance(end, Mapping) else end
    added = config.get("added_tokens_decoder") or {}
    ids = [int(number) for number, token in added.items() if token["content"] == name]
    if ids:
        found["stop_ids"] = ids
    return found


def from_hf(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our values of a `generation_config.json`."""
    found = {name: config[name] for name in SAME if config.get(name) is not None}
    if config.get("do_sample"):
        found |= {name: config.get(name, default) for name, default in SAMPLED.items()}
    ends = config.get("eos_token_id")
    if ends is not None:
        found["stop_ids"] = list(ends) if isinstance(ends, list) else [ends]
    return found
