"""The pages that come from the code:
one a format, one a family, the reasons of rejects, the reference.

Each function returns the Markdown of a page. What a format or a family is, takes and needs is said
in its own file and nowhere else; a page cannot differ from the code that it describes.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mmdata import formats, templates
from mmdata._tools.options import defaults, wordings
from mmdata.errors import TokenError
from mmdata.formats._field_kinds import FIELD_KINDS
from mmdata.formats._meaning import MEANING_FIELDS, SPAN_FIELDS
from mmdata.rejects import Reason
from mmdata.video.sampling import RULES

__all__ = ["ROOMS", "pages", "pages_of_repository"]

ROOMS: Final = (
    "schema",
    "errors",
    "rejects",
    "store",
    "sources",
    "formats",
    "image",
    "video",
    "engine",
    "conversion",
    "frame_cache",
    "mixture",
    "tokenizers",
    "templates",
    "pipeline",
    "exporters",
    "hub",
    "report",
)
"""The rooms that the reference shows, from left to right."""

_ROLE: Final = re.compile(r":\w+:`~?([^`]+)`")
_CODE: Final = re.compile(r"``([^`]+)``")


def pages() -> Iterator[tuple[str, str]]:
    """Yield every generated page: its path in the site, and its Markdown."""
    yield "formats/index.md", format_index()
    for name in formats.registry.names():
        yield f"formats/{name}.md", format_page(name)
    yield "families/index.md", family_index()
    for name in templates.registry.names():
        yield f"families/{name}.md", family_page(name)
    yield "reference/index.md", reference_index()
    yield "reference/mmdata.md", reference_of_package()
    yield "reference/frames.md", frames_page()
    yield "reference/rejects_by_reason.md", reasons_page()
    yield "reference/fields.md", fields_page()
    for room in rooms():
        yield f"reference/{room}.md", reference_page(room)


def pages_of_repository(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the pages that stand elsewhere in the repository, where people look for them too."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    sections = re.split(r"^(?=## )", readme, flags=re.MULTILINE)
    wanted = ("## Five minutes", "## From Python")
    taken = [section for section in sections if section.startswith(wanted)]
    yield (
        "five_minutes.md",
        "\n".join(["# Five minutes", "", *taken]).replace("## Five minutes\n", "", 1),
    )
    yield "security.md", (root / "SECURITY.md").read_text(encoding="utf-8")
    yield "changes.md", (root / "CHANGELOG.md").read_text(encoding="utf-8")


# --- formats
# --------------------------------------------------------------------------------------------------


def format_index() -> str:
    """Return the page that lists the formats."""
    rows = [
        [f"[{name}]({name}.md)", formats.registry.get(name).summary]
        for name in formats.registry.names()
    ]
    return "\n".join(
        [
            "# Formats",
            "",
            "What `mmdata convert FORMAT SOURCE` reads. `mmdata convert auto SOURCE` finds the",
            "format by records from all over the source.",
            "",
            *table(["format", "what it is"], rows),
        ]
    )


def format_page(name: str) -> str:
    """Return the page of one format."""
    kind: Any = formats.registry.get(name)
    return "\n".join(
        [
            f"# {name}",
            "",
            f"{kind.summary}.",
            "",
            *introduction(kind),
            "## The shape of a source",
            "",
            "```text",
            indent_json(kind.shape),
            "```",
            "",
            *other_shapes(name),
            "## Options",
            "",
            "Given as `--option KEY=VALUE` on the command line, as `options={...}` to",
            "`mmdata.convert`.",
            "",
            *option_table(kind),
            "",
            "## To convert",
            "",
            "```text",
            f"mmdata convert {name} SOURCE -o STORE",
            "```",
        ]
    )


def other_shapes(name: str) -> list[str]:
    """Return the section of the other shapes that a format reads, each with its example."""
    lines = []
    for words, source in formats.examples(name).items():
        lines += [f"### {words[0].upper()}{words[1:]}", "", "```text", indent_json(source)]
        lines += ["```", ""]
    return ["## Other shapes", "", *lines] if lines else []


# --- families
# --------------------------------------------------------------------------------------------------


def family_index() -> str:
    """Return the page that lists the model families."""
    rows = []
    for name in templates.registry.names():
        kind = templates.registry.get(name)
        rows.append([f"[{name}]({name}.md)", first_sentence(kind)])
    return "\n".join(
        [
            "# Model families",
            "",
            "A template makes of a conversation what its model family reads.",
            "`mmdata show STORE ROW --template FAMILY --tokenizer FILE` shows the tokens, and",
            "which of them are trained on.",
            "",
            *table(["family", "what its template does"], rows),
        ]
    )


def family_page(name: str) -> str:
    """Return the page of one model family."""
    kind: Any = templates.registry.get(name)
    module = inspect.getmodule(kind)
    return "\n".join(
        [
            f"# {name}",
            "",
            *([plain(inspect.getdoc(module) or ""), ""] if module else []),
            *introduction(kind),
            "## Options",
            "",
            "Given as `--template-option KEY=VALUE` on the command line, as keyword arguments to",
            f'`mmdata.templates.get("{name}")`.',
            "",
            *option_table(kind),
            "",
            *tokenizer_section(name),
        ]
    )


def tokenizer_section(name: str) -> list[str]:
    """Return what a page says of the vocabulary of a family:
    what its loader asks for where there is none.

    It is asked, and not a table of ours, so that a family of another package says it in the same
    way.
    """
    try:
        templates.registry.get(name).load_tokenizer(Path(os.devnull) / "vocabulary")
    except TokenError as error:
        _, _, wanted = str(error).partition("wanted is ")
        return [
            "## Tokenizer",
            "",
            "`mmdata show` and `info` read it from `--tokenizer PATH`, the vocabulary file or its "
            f"folder: {wanted}.",
            "",
            "The file is compared with the published one, and refused if it differs;",
            "`verify=False` takes it.",
        ]
    return []


# --- reference
# --------------------------------------------------------------------------------------------------


def rooms() -> tuple[str, ...]:
    """Return the rooms of the reference,
    and what checks formats and templates where it is there.
    """
    return (*ROOMS, *(["testing"] if importlib.util.find_spec("mmdata.testing") else []))


def reference_index() -> str:
    """Return the page that lists the rooms."""
    rows = [
        [f"[mmdata.{room}]({room}.md)", first_sentence(importlib.import_module(f"mmdata.{room}"))]
        for room in rooms()
    ]
    return "\n".join(
        [
            "# Reference",
            "",
            "Written from the docstrings. What has no underscore is public. [mmdata](mmdata.md)",
            "itself has the names that most programs need; [frame strategies](frames.md),",
            "[reasons](rejects_by_reason.md) and [fields](fields.md) that change the meaning of a",
            "record are tables of their own.",
            "",
            *table(["room", "what is in it"], rows),
        ]
    )


def reference_of_package() -> str:
    """Return the page of the names that stand in ``mmdata`` itself,
    each with a link to where it is written down.
    """
    import mmdata

    rows = []
    for name in mmdata.__all__:
        thing = getattr(mmdata, name)
        room = ".".join(thing.__module__.split(".")[:2])
        is_shown = name in getattr(importlib.import_module(room), "__all__", ())
        home = room if is_shown else thing.__module__  # a room may keep the name for a module
        rows.append([f"[`mmdata.{name}`][{home}.{name}]", first_sentence(thing)])
    return "\n".join(
        [
            "# mmdata",
            "",
            plain(inspect.getdoc(mmdata) or ""),
            "",
            *table(["name", "what it is"], rows),
        ]
    )


def reference_page(room: str) -> str:
    """Return the page of a room: its own public names, then those of each public module in it."""
    package = importlib.import_module(f"mmdata.{room}")
    lines = [f"# mmdata.{room}", "", *entry_of(package.__name__, getattr(package, "__all__", ()))]
    for module in submodules(package):
        names = [
            name
            for name in getattr(module, "__all__", ())
            if name not in getattr(package, "__all__", ())
        ]
        lines += [f"## {module.__name__}", "", *entry_of(module.__name__, names)]
    return "\n".join(lines)


def entry_of(path: str, names: Sequence[str]) -> list[str]:
    """Return the block by which mkdocstrings writes the docstring
    of a module and of some of its names.
    """
    members = [f"        - {name}" for name in names if not name.startswith("__")]
    return [
        f"::: {path}",
        "    options:",
        "      show_root_heading: false",
        "      show_root_toc_entry: false",
        "      heading_level: 3",
        "      members:" if members else "      members: false",
        *members,
        "",
    ]


def submodules(package: Any) -> list[Any]:
    """Return the public modules of a room, sorted; none of a room that is one file."""
    found = pkgutil.iter_modules(getattr(package, "__path__", ()))
    names = sorted(each.name for each in found if not each.name.startswith("_") and not each.ispkg)
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


def frames_page() -> str:
    """Return the page of the rules by which frames are taken."""
    rows = []
    for name, rule in RULES.items():
        parameters = list(inspect.signature(rule).parameters.values())[1:]
        shown = [each.name for each in parameters if each.kind is not each.KEYWORD_ONLY]
        rows.append([f"`{':'.join([name, *shown])}`", first_sentence(rule)])
    return "\n".join(
        [
            "# Frame strategies",
            "",
            "What `--frames`, `frames=` and `mmdata.video.sample` take. Arguments follow the",
            "name after colons; those of the reference's signatures that have a default may be",
            "left out.",
            "",
            *table(["strategy", "frames"], rows),
        ]
    )


def reasons_page() -> str:
    """Return the page of reason codes."""
    rows = [[f"`{reason.value}`", reason.explanation] for reason in Reason]
    return "\n".join(
        [
            "# Reasons of rejects",
            "",
            "The codes in `rejects.jsonl`.",
            "",
            *table(["reason", "what it means"], rows),
        ]
    )


def fields_page() -> str:
    """Return the page of the fields that change what a record means."""
    return "\n".join(
        [
            "# Fields that change the meaning of a record",
            "",
            "A row that would keep one of these in `extra` is a reject `unsupported_field`, unless",
            "its format or `--allow-fields` admits it:",
            "[what is said is heard](../tasks/meaning.md).",
            "",
            *(f"- `{name}`" for name in sorted(MEANING_FIELDS)),
            "",
            "So does where a clip begins or ends: `start`, `end` or `begin`, alone, of what",
            "(`video_start`, `clip_end`, `event_begin`, `trim_stop`), in what unit (`start_sec`,",
            "`end_frame`, `begin_ms`), or both.",
            "",
            "These do where they hold two times, or a list of such: "
            + ", ".join(f"`{name}`" for name in sorted(SPAN_FIELDS))
            + ".",
            "",
            "Fields with other names of the same words do where what they hold says such a thing:",
            "",
            *table(
                ["what they say", "such as"], [[k.meaning, f"`{k.example}`"] for k in FIELD_KINDS]
            ),
            "",
            "Others do by [what stands beside them](../tasks/meaning.md).",
        ]
    )


# --- pieces of pages
# ---------------------------------------------------------------------------------------------


def introduction(kind: type[Any]) -> list[str]:
    """Return the docstring of a class in Markdown."""
    return [plain(inspect.getdoc(kind) or ""), ""]


def indent_json(shape: str) -> str:
    """Return the shape of a source over several lines where it is JSON, else as it is; the name of
    its file stands before it.
    """
    place, _, text = shape.partition(": ") if shape[:1] not in "[{" else ("", "", shape)
    try:
        indented = json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except ValueError:
        return shape
    return f"{place}:\n{indented}" if place else indented


def option_table(kind: type[Any]) -> list[str]:
    """Return the options of a dataclass that have a default: names, what they admit, defaults."""
    admitted: Mapping[str, str] = wordings(kind)
    rows = [
        [f"`{name}`", admitted.get(name, "anything that its default may be"), f"`{default}`"]
        for name, default in defaults(kind).items()
    ]
    return table(["option", "takes", "default"], rows) if rows else ["It has none."]


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    ]


def first_sentence(thing: Any) -> str:
    """Return the first paragraph of a docstring on one line."""
    return plain(" ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split()))


def plain(text: str) -> str:
    """Return a docstring as Markdown: roles as code, double backticks as single ones.

    >>> plain("see :func:`mmdata.video.sample` and ``size``")
    'see `mmdata.video.sample` and `size`'
    """
    return _CODE.sub(r"`\1`", _ROLE.sub(r"`\1`", text))
