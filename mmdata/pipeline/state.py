"""Where a stream stands, as small JSON, and whether a stream may go on from there."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Final

from mmdata.errors import ConfigError
from mmdata.pipeline.plan import Cursor
from mmdata.store.manifest import hash_text
from mmdata.templates import Template

__all__ = ["VERSION", "describe", "from_json", "template_facts", "to_json"]

VERSION: Final = 1
_PROBE: Final = "The quick brown fox, 3.14 seconds; 你好，世界。\n\tÀ bientôt! <image> <|im_start|>"


def to_json(
    cursor: Cursor,
    step: int,
    left_out: Mapping[str, int],
    empty: Mapping[str, int],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the state after ``step`` batches;
    ``facts`` are those of the data and the configuration.
    """
    return {
        "version": VERSION,
        "step": step,
        "epoch": cursor.epoch,
        "position": cursor.position,
        "within": cursor.within,
        "carry": list(cursor.carry),
        "counts": dict(cursor.counts),
        "left_out": dict(left_out),
        "empty": dict(empty),
        "facts": dict(facts),
    }


def from_json(state: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Cursor, int]:
    """Return the cursor and the step of a state.

    Raises:
        ConfigError: it is not a state of this data and configuration; the message lists what
            differs.
    """
    if state.get("version") != VERSION:
        raise ConfigError(
            f"a pipeline state of version {state.get('version')!r}; this library reads {VERSION}"
        )

    theirs = state["facts"]
    differing = [name for name in sorted({*facts, *theirs}) if facts.get(name) != theirs.get(name)]
    if differing:
        found = "; ".join(
            f"{name} was {theirs.get(name)!r} and is {facts.get(name)!r}" for name in differing
        )
        raise ConfigError(
            f"this state belongs to another stream: {found}. Go on with what it was, or start anew."
        )

    cursor = Cursor(
        int(state["epoch"]),
        int(state["position"]),
        int(state["within"]),
        tuple(state["carry"]),
        dict(state["counts"]),
    )
    return cursor, int(state["step"])


def template_facts(template: Template) -> dict[str, str]:
    """Return what decides how a template reads:
    its class, its options, and what its tokenizer does.
    """
    kind = type(template)
    facts = {
        "template": f"{kind.__module__}.{kind.__qualname__}",
        "template.tokenizer": _tokenizer_hash(template),
    }
    for option in dataclasses.fields(template):  # type: ignore[arg-type]  # no protocol can say: a dataclass
        if option.name != "tokenizer":
            facts[f"template.{option.name}"] = describe(getattr(template, option.name))
    return facts


def describe(value: Any) -> str:
    """Return a text that is equal for equal options, in every process:
    functions by name, the rest as written.
    """
    if isinstance(value, functools.partial):
        return f"{describe(value.func)}{value.args}{value.keywords}"
    if callable(value) and hasattr(value, "__qualname__"):
        owner: Any = getattr(value, "__self__", None)
        belongs = f" of {owner!r}" if dataclasses.is_dataclass(owner) else ""
        return f"{value.__module__}.{value.__qualname__}{belongs}"
    return repr(value)


def _tokenizer_hash(template: Template) -> str:
    tokenizer = template.tokenizer
    special = sorted(tokenizer.special.items())
    return hash_text(
        type(tokenizer).__qualname__,
        str(tokenizer.vocab_size),
        repr(special),
        repr(tokenizer.encode(_PROBE)),
    )
