"""Options that several commands take alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

from mmdata._tools.limits import Limits
from mmdata._tools.paths import is_url
from mmdata.cli._options import BytesType, OptionType
from mmdata.errors import UsageError
from mmdata.storage import remote_path

if TYPE_CHECKING:
    from mmdata.templates import Template

__all__ = [
    "CONVERT",
    "COSTS",
    "COUNTING",
    "ENGINE",
    "JSON",
    "LIMITS",
    "MEDIA_CACHE",
    "MOVED",
    "OUTPUT",
    "OVERWRITE",
    "PARQUET",
    "PARTITIONS",
    "SIMILARITY",
    "STORE",
    "STRICT",
    "TEMPLATE",
    "WORKERS",
    "key_values",
    "make_template",
    "seed_of",
]


Decorator: TypeAlias = Callable[[Callable[..., None]], Callable[..., None]]


class PlaceType(click.Path):
    """The type of a path that may be a URL, whose slashes a path would lose."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return a path of this machine or of a URL."""
        if isinstance(value, str) and is_url(value):
            return remote_path(value)
        return Path(value)


STORE = PlaceType(path_type=Path)
CONVERT = partial(OptionType, "mmdata.conversion:convert")
WORKERS = click.option(
    "--workers", type=CONVERT("workers"), help="Processes that decode.  [default: one a core]"
)
OUTPUT = click.option(
    "-o", "--output", "store", required=True, type=STORE, help="Where the store shall appear."
)
MOVED = click.option(
    "--media-root", type=STORE, help="Where the media are now, if they have moved."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace the store that is there.")
PARQUET = click.option("--parquet", is_flag=True, help="Write Parquet instead of Arrow files.")
STRICT = click.option(
    "--strict", is_flag=True, help="Show the traceback of a fault in another package's template."
)


def seed_of(function: str, what: str) -> Decorator:
    """Return the option of a command that draws by the ``seed`` of a function; ``what`` another
    does.
    """
    return click.option(
        "--seed",
        type=OptionType(function, "seed"),
        default=0,
        show_default=True,
        help=f"Another seed {what}.",
    )


_LIMIT: Final = "mmdata._tools.limits:Limits.__init__"
_USUAL: Final = Limits()


def _together(*options: Decorator) -> Decorator:
    """Return a decorator that adds all of these options, in this order."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


MEDIA_CACHE = click.option(
    "--media-cache",
    metavar="DIR[:SIZE]",
    help="Keep what is fetched of media in DIR, up to SIZE, as in 200G.  [default SIZE: 64G]",
)
ENGINE = _together(
    click.option(
        "--engine",
        type=OptionType("mmdata.engine.open:open_engine", "name"),
        default="local",
        show_default=True,
        help="What works: processes of this machine, or Ray.",
    ),
    click.option(
        "--address", metavar="HOST:PORT", help="A Ray cluster.  [default: one on this machine]"
    ),
)
"""Where work is done."""


PARTITIONS = click.option(
    "--partitions",
    type=OptionType("mmdata.engine.partitions:split_store", "partitions"),
    help="Parts that the rows are split into.  [default: as many as keep workers busy]",
)
COUNTING = _together(
    click.option(
        "--workers",
        type=OptionType("mmdata.engine.partitions:split_store", "workers"),
        help="Processes that count.  [default: one a core, for a large store]",
    ),
    ENGINE,
    PARTITIONS,
)
"""Of commands that go through the columns of a store; what they find is the same with any."""


TEMPLATE = _together(
    click.option("--template", metavar="FAMILY", help="Read as a model family does."),
    click.option("--tokenizer", type=STORE, help="The family's vocabulary file, or its folder."),
    click.option("--template-option", "template_options", multiple=True, metavar="KEY=VALUE"),
    STRICT,
)
"""Of commands that read conversations as a model family does."""


COSTS = _together(
    click.option(
        "--deadline",
        type=OptionType(_LIMIT, "deadline"),
        metavar="SECONDS",
        default=_USUAL.deadline,
        show_default=True,
        help="What a file may take; as much again for each 8 MiB or minute.",
    ),
    click.option(
        "--memory",
        type=BytesType(_LIMIT, "memory"),
        default=_USUAL.memory,
        show_default=True,
        help="What a process that decodes may take, as in 2G.",
    ),
    click.option(
        "--max-pixels",
        type=OptionType(_LIMIT, "pixels"),
        default=_USUAL.pixels,
        show_default=True,
        help="Width times height of a picture or frame.",
    ),
)
"""Of commands that decode: what a file may cost."""


LIMITS = _together(
    click.option(
        "--on-damage",
        type=CONVERT("on_damage"),
        default="raise",
        show_default=True,
        help="Of a video that decodes in part, keep what does.",
    ),
    COSTS,
)
"""And what becomes of a damaged one."""

SIMILARITY = click.option(
    "--similarity",
    type=OptionType("mmdata.mixture:find_near_duplicates", "similarity"),
    default=0.8,
    show_default=True,
    help="Of near duplicates: the share of five-word runs that two texts have in common.",
)


def key_values(pairs: Iterable[str], option: str = "--option") -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    if bad := [key for key, equals, _ in split if not equals]:
        raise UsageError(f"{option} {bad[0]}: it wants KEY=VALUE")
    return {key: value for key, _, value in split}


def make_template(
    template: str | None,
    tokenizer: Path | None,
    template_options: Sequence[str],
    *,
    wanted_by: Mapping[str, object] | None = None,
) -> Template | None:
    """Return the template that a command was asked to read with, if it was; ``wanted_by`` are
    options of the command that mean nothing without, and what was said for each.

    Raises:
        UsageError: one of these, or a part of a template, was said and no template.
    """
    if template is None:
        parts = {"--tokenizer": tokenizer, "--template-option": template_options}
        if said := [option for option, value in {**parts, **(wanted_by or {})}.items() if value]:
            raise UsageError(
                f"{said[0]} wants --template FAMILY: tokens are what a model family reads"
            )
        return None
    from mmdata import templates

    templates.registry.get(template)  # an unknown name is said first
    if tokenizer is None:
        raise UsageError("--template wants --tokenizer FILE, the vocabulary of the model family")
    options = key_values(template_options, "--template-option")
    return templates.make(template, templates.load_tokenizer(template, tokenizer), options)
