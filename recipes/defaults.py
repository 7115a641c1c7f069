"""What a checkpoint says of how to generate, as values of our configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.checkpoint import read_metadata

# Of these the names and meanings are ours too.
SAME = ("max_new_tokens", "repetition_penalty")

# What transformers takes where a file that samples does not say
# (https://huggingface.co/docs/transformers: GenerationConfig).
SAMPLED = {"temperature": 1.0, "top_k": 50, "top_p": 1.0}


def generation_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The section `generation` that the weights of a configuration call for, by the
    `generation_config.json` that convert_weights.py has put into their head; empty where they have
    none.
    """
    weights = (values.get("model") or {}).get("weights")
    if weights is None or not Path(weights).expanduser().is_file():
        return {}
    path = Path(weights).expanduser()
    told = read_metadata(path).get("generation_config") if path.suffix == ".safetensors" else None
    return {} if told is None else {"generation": from_hf(json.loads(told))}


def from_hf(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our values of a `generation_config.json`."""
    found = {name: config[name] for name in SAME if config.get(name) is not None}
    if config.get("do_sample"):
        found |= {name: config.get(name, default) for name, default in SAMPLED.items()}
    ends = config.get("eos_token_id")
    if ends is not None:
        found["stop_ids"] = list(ends) if isinstance(ends, list) else [ends]
    return found
