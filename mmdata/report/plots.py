"""Distributions as pictures, drawn by matplotlib: files, and SVG for a page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmdata._tools.options import checked
from mmdata._tools.paths import local_path
from mmdata._tools.requirements import load_optional
from mmdata.errors import UsageError
from mmdata.report.histogram import Histogram

if TYPE_CHECKING:
    from mmdata.report.lengths import Lengths
    from mmdata.report.statistics import Statistics

__all__ = ["Distribution", "distributions", "draw_svg", "plots_folder", "write_plots"]

_TITLES: Final[Mapping[str, tuple[str, str]]] = {
    "turns": ("turns of a row", "rows"),
    "words": ("words of a row", "rows"),
    "media_per_row": ("media of a row", "rows"),
    "trained_characters": ("share of its characters that a row is trained on", "rows"),
    "width": ("width in pixels", "media"),
    "height": ("height in pixels", "media"),
    "duration": ("duration in seconds", "media"),
    "num_frames": ("frames", "media"),
}
_INCHES: Final = (4.2, 2.4)
_INK: Final = "#010203"
_BARS: Final = "#040506"
"""Colours that nothing else has, for which a page puts its own."""
_PAGE_COLORS: Final = {_INK: "currentColor", _BARS: "var(--accent)"}
_FILE_COLORS: Final = {_INK: "#1d2126", _BARS: "#1f6feb"}


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram with its ``name`` for files, its ``title``, and what is counted in it."""

    name: str
    title: str
    counted: str
    histogram: Histogram


def distributions(statistics: Statistics, lengths: Lengths | None) -> tuple[Distribution, ...]:
    """Return what can be drawn of a store: how many turns, words, media its rows have, how large
    and long these are, what share of a row is trained on, and of ``lengths`` how many tokens, and
    what share of those.

    What no row or medium has is left out.
    """
    found = [
        Distribution(name, title, counted, statistics.histograms[name])
        for name, (title, counted) in _TITLES.items()
    ]
    if lengths is not None:
        share = lengths.trained / lengths.tokens.clip(1)
        found += [
            Distribution("tokens", "tokens of a row", "rows", Histogram.of(lengths.tokens)),
            Distribution(
                "trained_tokens",
                "share of its tokens that a row is trained on",
                "rows",
                Histogram.of(share),
            ),
        ]
    return tuple(each for each in found if each.histogram.counts)


@checked
def plots_folder(folder: str | Path) -> Path:
    """Return the folder that plots are to be written into, before anything is counted for them.

    Raises:
        UsageError: it is behind a URL or a file, or matplotlib is not installed.
    """
    target = local_path(folder, "folder of plots")
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file: name a folder for the plots")
    load_optional("matplotlib", needed_by="plots", extra="report")
    return target


@checked
def write_plots(folder: str | Path, drawn: Sequence[Distribution]) -> tuple[Path, ...]:
    """Write each distribution as SVG and as PNG into ``folder``, which is made if it is not there,
    and return the paths.

    Raises:
        UsageError: as :func:`plots_folder`; a file is there already, or the folder cannot be made.
    """
    target = plots_folder(folder)
    paths = {
        (each, kind): target / f"{each.name}.{kind}" for each in drawn for kind in ("svg", "png")
    }
    if there := [path for path in paths.values() if path.exists()]:
        raise UsageError(f"{there[0]} is there: name another folder for the plots")
    pictures = {path: _render(each, kind) for (each, kind), path in paths.items()}

    try:
        target.mkdir(parents=True, exist_ok=True)
        for path, picture in pictures.items():
            path.write_bytes(picture)
    except OSError as error:
        raise UsageError(f"plots cannot be written to {target}: {error}") from error
    return tuple(pictures)


def draw_svg(drawn: Distribution) -> str:
    """Return a distribution as an SVG element for a page, in the page's colours: it refers to
    nothing, neither outside nor in itself.

    Raises:
        UsageError: matplotlib is not installed.
    """
    text = _render(drawn, "svg", _PAGE_COLORS).decode()
    element = text[text.index("<svg") :]
    # Style sheets in an element would be those of the whole page, and so would ids.
    return re.sub(r'<(metadata|defs)>.*?</\1>\s*| id="[^"]*"', "", element, flags=re.DOTALL)


def _render(drawn: Distribution, kind: str, colors: Mapping[str, str] = _FILE_COLORS) -> bytes:
    """Return a picture of a distribution, the same bytes each time."""
    matplotlib = load_optional("matplotlib", needed_by="plots", extra="report")
    figures = load_optional("matplotlib.figure", needed_by="plots", extra="report")
    # Texts stay texts, in the font of the page; ids come of a salt and not of chance.
    settings = {"svg.fonttype": "none", "svg.hashsalt": "mmdata", "font.size": 9}
    painted = _FILE_COLORS if kind == "png" else {_INK: _INK, _BARS: _BARS}
    out = io.BytesIO()
    with matplotlib.rc_context(settings):
        # A figure of one's own, not pyplot's: that keeps all figures, and asks for a display.
        figure = figures.Figure(_INCHES, layout="constrained")
        _draw(figure.add_subplot(), drawn, painted[_INK], painted[_BARS])
        about = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(out, format=kind, dpi=150, transparent=kind == "svg", metadata=about)
    picture = out.getvalue()
    if kind == "svg":
        for color, wanted in colors.items():
            picture = picture.replace(color.encode(), wanted.encode())
    return picture


def _draw(axes: Any, drawn: Distribution, ink: str, bars: str) -> None:
    """Draw a histogram without anything that SVG would refer to by name: marks, clips."""
    histogram = drawn.histogram
    axes.stairs(histogram.counts, histogram.edges, fill=True, color=bars, clip_on=False)
    axes.set_title(drawn.title, color=ink, fontsize=10, loc="left")
    axes.set_ylabel(drawn.counted, color=ink)
    axes.set_xlim(histogram.edges[0], histogram.edges[-1])
    axes.set_ylim(0, max(histogram.counts) * 1.05 or 1)

    axes.tick_params(length=0, colors=ink)
    axes.xaxis.set_major_locator(_ticks(drawn, steps=5))
    axes.yaxis.set_major_locator(_ticks(drawn, steps=4, whole=True))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.grid(True, color=ink, alpha=0.15, linewidth=0.6, clip_on=False)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(ink)


def _ticks(drawn: Distribution, *, steps: int, whole: bool = False) -> Any:
    ticker = load_optional("matplotlib.ticker", needed_by="plots", extra="report")
    halves = drawn.histogram.edges[0] % 1 == 0.5  # edges of whole numbers
    return ticker.MaxNLocator(steps, integer=whole or halves, min_n_ticks=1)
