"""The law of options: whatever is public refuses a value
that an option cannot have, and says what it can have.

Nothing here lists the functions it is about: they are found by walking what is public, so that a
new one is held too. What needs no options is listed instead, with the reason.
"""

from __future__ import annotations

import ast
import inspect
import math
import os
import pkgutil
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec
import pytest

import mmdata
from mmdata.errors import UsageError

INTERNAL: Final = {
    "mmdata.store.arrays": "columns of values that were checked when they became conversations",
    "mmdata.cli": "the commands; tests/cli/test_options.py",
    "mmdata.store.clocks": "as arrays",
    "mmdata.store.encode": "as arrays",
    "mmdata.store.batch": "the currency of the house, made by builders and steps of a conversion",
    "mmdata.store.builder": "a call for every row",
    "mmdata.store.contents": "as arrays",
    "mmdata.conversion.ids": "ids of conversations, for conversion alone",
    "mmdata.formats.toolkit": "what formats are made of: calls for every record",
    "mmdata.store.layout": "names of files",
    "mmdata.conversion.locate": "a call for every medium, with what convert was given",
    "mmdata.store.manifest": "read from and written to stores, which vouch for it",
    "mmdata.conversion.media": "the steps of a conversion",
    "mmdata.conversion.steps": "as media",
    "mmdata.conversion.partitions": "as media",
    "mmdata.store.publish": "the steps of writing a store",
    "mmdata.store.decode": "reads a store",
    "mmdata._tools.shuffle": "arithmetic",
    "mmdata.pipeline.collate": "the steps of a stream, whose options it has checked",
    "mmdata.pipeline.decoders": "as collate",
    "mmdata.pipeline.encode": "as collate",
    "mmdata.pipeline.features": "as collate",
    "mmdata.pipeline.group": "as collate",
    "mmdata.pipeline.mindformers": "as collate",
    "mmdata.pipeline.packing": "as collate",
    "mmdata.pipeline.plan": "as collate",
    "mmdata.pipeline.produce": "as collate",
    "mmdata.pipeline.workers": "as collate",
    "mmdata.templates.toolkit": "the steps of a template, which has checked its options",
    "mmdata.video.clock": "as coded_order",
    "mmdata.video.coded_order": "the steps of sample, which has checked its options",
    "mmdata.video.decord_backend": "as coded_order",
    "mmdata.video.folder": "as coded_order",
    "mmdata.video.pictures": "as coded_order",
    "mmdata.video.packets": "as coded_order",
}
RESULTS: Final = {
    "mmdata.formats._format.Sample": "what a source begins with, made by detect",
    "mmdata.mixture.near_duplicates.NearGroups": "what a store was found to hold",
    "mmdata.pipeline.batch.Batch": "made by a stream",
    "mmdata.report.lengths.Lengths": "what a store was found to hold",
    "mmdata.conversion.probe.Probe": "what a file was found to be",
    "mmdata.templates._encoded.Encoded": "made by a template, thousands a second",
    "mmdata.templates._encoded.PixelPlan": "as Encoded",
    "mmdata.templates._features.FeatureIndex": "as Encoded",
    "mmdata.video.clock.Clock": "made by index",
    "mmdata.video.frames.Frames": "made by sample",
    "mmdata.video.index.Index": "what a file was found to hold",
    "mmdata.video.reader.Reader": "made by reading",
    "mmdata.store.writer.Origin": "what a manifest tells",
}
HOT: Final = {
    "mmdata.rejects.Reject.from_error": "a call for every reject, of what a record says",
    "recipes.config.read": "reads a file, of which it takes what is checked",
    "mmdata._tools.options.read": "reads text as what is checked next",
    "mmdata.store.writer.StoreWriter.write": "a call for every row",
    "mmdata.templates._features.index_all_rows": "a call for every medium, of what was encoded",
    "mmdata.templates.cogvlm2_video.CogVLM2Video.index_features": "as index_all_rows",
    "mmdata.templates.llava_next_video.LlavaNextVideo.index_features": "as index_all_rows",
    "mmdata.templates.llava_next_video.num_image_tokens": "a call for every picture, with the "
    "options of the template",
    "mmdata.templates.qwen_vl.QwenVL.index_features": "as index_all_rows",
    "mmdata.templates.visualglm.VisualGLM.index_features": "as index_all_rows",
}
UNBOUNDED: Final = frozenset({"seed"})
"""Whole numbers that may be any."""


@dataclass(frozen=True)
class Option:
    """One parameter of something public."""

    owner: str
    call: Callable[..., Any]
    name: str
    hint: Any

    def __str__(self) -> str:
        return f"{self.owner}({self.name})"

    def refusal(self, value: object) -> str:
        """What is said to the value; all other arguments are nothing anybody could use."""
        parameters = inspect.signature(self.call).parameters.values()
        needed = [
            p
            for p in parameters
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        positional = [p.name for p in needed if p.kind is p.POSITIONAL_ONLY]
        named = {p.name: object() for p in needed if p.kind is not p.POSITIONAL_ONLY} | {
            self.name: value
        }
        with pytest.raises(UsageError) as raised:
            self.call(*(object() for _ in positional), **named)
        return str(raised.value)


# --- what is public
# -----------------------------------------------------------------------------------------------


def public_modules() -> Iterator[types.ModuleType]:
    yield mmdata
    for found in pkgutil.walk_packages(mmdata.__path__, "mmdata."):
        if (
            not any(part.startswith("_") for part in found.name.split("."))
            and found.name not in INTERNAL
        ):
            yield import_module(found.name)
    yield import_module("recipes.config")


def public_things() -> dict[str, Any]:
    """Every function and class by the name of the place where it is made."""
    found: dict[str, Any] = {}
    for module in public_modules():
        for name in getattr(
            module, "__all__", [name for name in vars(module) if not name.startswith("_")]
        ):
            thing = getattr(module, name)
            if inspect.isroutine(thing) or inspect.isclass(thing):
                found[f"{thing.__module__}.{thing.__qualname__}"] = thing
    return {
        name: thing for name, thing in found.items() if name.startswith(("mmdata.", "recipes."))
    }


def has_no_options(name: str, thing: Any) -> bool:
    """Errors; conversations, which are checked as data; protocols;
    tuples, enumerations and results that we make.
    """
    if not inspect.isclass(thing):
        return False
    return (
        name in RESULTS
        or issubclass(thing, (BaseException, msgspec.Struct, tuple, str))
        or getattr(thing, "_is_protocol", False)
    )


def calls() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, thing in public_things().items():
        if has_no_options(name, thing) or name in HOT:
            continue
        yield name, thing
        if inspect.isclass(thing):
            for member, kind in vars(thing).items():
                method = isinstance(kind, (types.FunctionType, classmethod, staticmethod))
                if method and not member.startswith("_") and f"{name}.{member}" not in HOT:
                    yield f"{name}.{member}", getattr(thing, member)


@cache
def namespace_of(module: types.ModuleType) -> Mapping[str, Any]:
    """What annotations in a module may name, those imported for type checkers alone among it."""
    names = dict(vars(module))
    guarded = [
        inner
        for statement in ast.parse(inspect.getsource(module)).body
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"
        for inner in statement.body
    ]
    for statement in guarded:
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("mmdata"):
            known = namespace_of(import_module(str(statement.module)))
            names |= {alias.asname or alias.name: known[alias.name] for alias in statement.names}
        else:
            exec(compile(ast.Module([statement], []), module.__name__, "exec"), names)
    return names


def home_of(call: Callable[..., Any], parameter: str) -> str:
    """Return the module that an annotation was written in: a class may inherit its fields."""
    if isinstance(call, type):
        for base in call.__mro__:
            if parameter in inspect.get_annotations(base):
                return base.__module__
    return str(inspect.unwrap(call).__module__)


def options() -> Iterator[Option]:
    for owner, call in calls():
        for parameter in inspect.signature(call).parameters.values():
            if (
                parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
                or parameter.name == "self"
            ):
                continue
            names = namespace_of(sys.modules[home_of(call, parameter.name)])
            hint = parameter.annotation
            while isinstance(hint, str):
                hint = eval(hint, dict(names))
            optional = (
                parameter.default is not parameter.empty or parameter.kind is parameter.KEYWORD_ONLY
            )
            if is_judged(hint) and (optional or choices(hint)):
                yield Option(owner, call, parameter.name, hint)


# --- what a type admits, told a second time
# ----------------------------------------------------------------------


def alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def choices(hint: Any) -> tuple[str, ...]:
    return tuple(
        choice
        for each in alternatives(hint)
        if get_origin(each) is Literal
        for choice in get_args(each)
    )


def is_judged(hint: Any) -> bool:
    """Whether all that the type may be is choices, numbers,
    text, truth, paths, tuples, or our dataclasses.
    """
    return all(map(is_plain, alternatives(hint))) and hint is not type(None)


def is_plain(hint: Any) -> bool:
    kind = get_origin(hint) or hint
    if kind is Annotated:
        return is_plain(get_args(hint)[0])
    if kind is tuple and get_args(hint):
        return all(is_judged(inner) for inner in get_args(hint) if inner not in (..., Any))
    return kind in (Literal, bool, int, float, str, bytes, tuple, type(None)) or (
        isinstance(kind, type) and (issubclass(kind, os.PathLike) or is_dataclass(kind))
    )


def admits(hint: Any, value: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(admits(each, value) for each in inner)
    if origin is Literal:
        return type(value) is str and value in inner
    if origin is Annotated:
        return admits(inner[0], value) and all(within(bound, value) for bound in inner[1:])
    if origin is tuple:
        if inner[-1:] == (...,):
            return type(value) is tuple and all(admits(inner[0], each) for each in value)
        return type(value) is tuple and len(value) == len(inner) and all(map(admits, inner, value))
    if hint is Any:
        return True
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if hint is Path:
        return isinstance(value, os.PathLike)
    return type(value) is hint


def within(bound: msgspec.Meta, value: float) -> bool:
    return (
        (bound.ge is None or value >= bound.ge)
        and (bound.gt is None or value > bound.gt)
        and (bound.le is None or value <= bound.le)
        and (bound.lt is None or value < bound.lt)
    )


def bounds(hint: Any) -> list[msgspec.Meta]:
    return [
        meta
        for each in alternatives(hint)
        if get_origin(each) is Annotated
        for meta in get_args(each)[1:]
    ]


def words(hint: Any) -> Iterator[str]:
    """What a refusal has to name."""
    for each in alternatives(hint):
        yield from choices(each)
        base = get_args(each)[0] if get_origin(each) is Annotated else each
        yield from {
            bool: ["true or false"],
            int: ["whole number"],
            float: ["finite number"],
            str: ["text"],
        }.get(base, [])
        for meta in bounds(each):
            yield from (
                str(bound) for bound in (meta.ge, meta.gt, meta.le, meta.lt) if bound is not None
            )


WORDS: Final = {
    bool: ["true or false"],
    int: ["whole number"],
    float: ["finite number"],
    str: ["text"],
}
STRANGE: Final[tuple[Any, ...]] = (
    *(
        "no such value",
        "",
        "3",
        b"",
        None,
        True,
        False,
        0,
        -1,
        1,
        101,
        2.5,
        -0.5,
        math.nan,
        math.inf,
        -math.inf,
    ),
    *((), (1,), ("a",), (1, 2), (0, 0), (1, "a"), ("a", "b", "c"), [], [1, 2], {}, object()),
)


def near_misses(hint: Any) -> list[str]:
    return [choice[:-1] for choice in choices(hint) if choice[:-1] not in choices(hint)]


# --- the laws
# --------------------------------------------------------------------------------------------------


OPTIONS: Final = list(options())


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_a_value_that_an_option_cannot_have_is_refused_with_what_it_can(option: Option) -> None:
    wrong = [
        value for value in (*STRANGE, *near_misses(option.hint)) if not admits(option.hint, value)
    ]
    assert wrong

    for value in wrong:
        said = option.refusal(value)

        assert f"{option.name} must be " in said, value
        assert all(word in said for word in words(option.hint)), said


@pytest.mark.parametrize(
    "option", [option for option in OPTIONS if near_misses(option.hint)], ids=str
)
def test_a_choice_that_is_misspelt_is_answered_with_the_nearest(option: Option) -> None:
    for value in near_misses(option.hint):
        assert "Did you mean '" in option.refusal(value)


def test_every_number_says_its_bounds() -> None:
    numbers = [option for option in OPTIONS if {int, float} & set(alternatives(option.hint))]

    assert [str(option) for option in numbers if option.name not in UNBOUNDED] == []


def test_the_default_of_an_option_is_a_value_that_it_can_have() -> None:
    defaults = [
        (option, inspect.signature(option.call).parameters[option.name].default)
        for option in OPTIONS
    ]
    given = [(option, value) for option, value in defaults if value is not inspect.Parameter.empty]

    factories = "<factory>"  # of a dataclass: each has a default of its own
    assert [
        str(o) for o, value in given if repr(value) != factories and not admits(o.hint, value)
    ] == []


def test_the_law_sees_what_people_call() -> None:
    """It finds by itself what the documentation is about,
    so that it cannot pass by finding nothing.
    """
    owners = {option.owner for option in OPTIONS}

    for name in (
        *(
            "conversion._convert.convert",
            "frame_cache.cache_frames",
            "video.sample.sample",
            "video.plan.plan",
            "image.decode.decode",
        ),
        *(
            "conversion.probe.probe",
            "_tools.limits.Limits",
            "pipeline.stream.Stream",
            "pipeline.stream.Stream.take",
            "engine.local.Pool",
        ),
        *(
            "mixture.mixture.Mixture",
            "mixture.mixture.Mixture.from_yaml",
            "mixture.mixture.write_mixture",
        ),
        *(
            "templates.qwen_vl.QwenVL",
            "templates.visualglm.VisualGLM",
            "templates.cogvlm2_video.CogVLM2Video",
        ),
        *(
            "templates.llava_next_video.LlavaNextVideo",
            "formats.rwf2000.Rwf2000",
            "tokenizers._load.load",
        ),
    ):
        assert f"mmdata.{name}" in owners
    assert "recipes.config.Data" in owners
    assert len(OPTIONS) > 150


@pytest.mark.parametrize("name", [*INTERNAL, *RESULTS, *HOT])
def test_what_the_law_leaves_out_exists(name: str) -> None:
    module, _, rest = name, "", ""
    while True:
        try:
            thing: Any = import_module(module)
            break
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            rest = f"{last}.{rest}" if rest else last
    for part in filter(None, rest.split(".")):
        thing = getattr(thing, part)
    assert thing is not None
