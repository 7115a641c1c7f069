"""HTML of small tables, for notebooks; the text of others is text in them, never markup."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

from mmdata._tools.terminal import visible

__all__ = ["picture", "shorten", "table", "text"]


def text(value: object) -> str:
    r"""Return a value's text as HTML that shows it, whatever it says; its lines stay lines.

    >>> text("<b>one\ntwo")
    '<span style="white-space:pre-wrap">&lt;b&gt;one\ntwo</span>'
    """
    return f'<span style="white-space:pre-wrap">{escape(visible(str(value)))}</span>'


def table(title: str, rows: Iterable[Sequence[str]], head: Sequence[str] = ()) -> str:
    """Return a table below its title; the cells are HTML already, title and head are text."""
    cell = '<td style="text-align:left;vertical-align:top">'
    lines = ["<tr>" + "".join(f"<th>{text(name)}</th>" for name in head) + "</tr>"] if head else []
    lines += ["<tr>" + "".join(f"{cell}{value}</td>" for value in row) + "</tr>" for row in rows]
    return f"<div><strong>{text(title)}</strong><table>{''.join(lines)}</table></div>"


def picture(jpeg: bytes, caption: str) -> str:
    """Return a picture with what is said below it."""
    source = f"data:image/jpeg;base64,{b64encode(jpeg).decode('ascii')}"
    return (
        '<figure style="display:inline-block;margin:4px">'
        f'<img src="{source}" alt=""><figcaption>{text(caption)}</figcaption></figure>'
    )


def shorten(words: str, most: int = 400) -> str:
    """Return words without what is behind the first ``most`` characters, and how many those are.

    >>> shorten("abcdef", 4)
    'abcd… (2 more characters)'
    """
    more = len(words) - most
    return words if more <= 0 else f"{words[:most]}… ({more:,} more characters)"
