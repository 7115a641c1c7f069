"""Options of commands that are those of functions:
their choices and bounds are read from the function itself.
"""

from __future__ import annotations

from importlib import import_module
from operator import attrgetter
from typing import Any, Literal

import click
from click.shell_completion import CompletionItem

from mmdata._tools.limits import parse_bytes
from mmdata._tools.options import choices_of, fault_of, from_text, hints_of
from mmdata.errors import UsageError

__all__ = ["BytesType", "OptionType", "ResizeType", "SplitType"]


class OptionType(click.ParamType):  # type: ignore[type-arg]  # generic since 8.4, not before
    """The type of the option ``name`` of a function, which is imported when the option is used.

    >>> OptionType("mmdata.conversion:convert", "check").choices
    ('none', 'exists', 'probe', 'decode')
    """

    name = "value"

    def __init__(self, function: str, option: str) -> None:
        self.function = function
        self.option = option

    @property
    def hint(self) -> Any:
        """The annotation of the function's parameter."""
        module, _, name = self.function.partition(":")
        return hints_of(attrgetter(name)(import_module(module)))[self.option]

    @property
    def choices(self) -> tuple[str, ...]:
        """The choices that the option gives, none if it is a number or text."""
        return choices_of(self.hint)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value that text on the command line spells; a default is taken as it is."""
        try:
            if isinstance(value, str):
                return from_text(value, self.hint)
        except UsageError as error:
            self.fail(str(error), param, ctx)
        if fault := fault_of(self.hint, value):
            self.fail(fault, param, ctx)
        return value

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str | None:
        """Return the choices, or what kind of number is wanted, as help shows it."""
        if self.choices:
            return f"[{'|'.join(self.choices)}]"
        return "INTEGER" if fault_of(self.hint, 1) is None else None

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the choices that begin as what was typed."""
        return [CompletionItem(choice) for choice in self.choices if choice.startswith(incomplete)]


class ResizeType(OptionType):
    """The type of an option that takes ``fast`` or the name of a resizer,
    ours or another package's.
    """

    @property
    def hint(self) -> Any:
        """The names there are, found when the option is used."""
        from mmdata.image import resizers

        choices = ("fast", *resizers.names())
        return Literal[choices]


class SplitType(OptionType):
    """The type of an option that takes a split, or the shares of several."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a split, or the shares that text spells as in ``train=0.9,val=0.1``."""
        if not isinstance(value, str) or "=" not in value:
            return super().convert(value, param, ctx)
        from mmdata.conversion.split import read_shares

        try:
            return read_shares(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class BytesType(OptionType):
    """The type of an option that takes a number of bytes, plain or as in ``2G``."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the bytes that text spells: a whole number, or a number and K, M, G or T.

        >>> BytesType("mmdata._tools.limits:Limits.__init__", "memory").convert("1.5G", None, None)
        1610612736
        """
        if isinstance(value, str) and (size := parse_bytes(value)) is not None:
            value = size
        return super().convert(value, param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str | None:
        """Return what kind of number is wanted, as help shows it."""
        return "BYTES"
