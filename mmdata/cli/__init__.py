"""The ``mmdata`` command: one thin function a command; the work is the library's."""

from __future__ import annotations

import io
import json
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import mmdata
from mmdata._tools.terminal import json_text, one_line, visible
from mmdata.cli._options import OptionType, ResizeType, SplitType
from mmdata.errors import DataError, MMDataError, PluginError, UsageError
from mmdata.store.layout import REJECTS

if TYPE_CHECKING:
    from mmdata.conversion import ConvertReport
    from mmdata.conversion.prober import MediaLevel
    from mmdata.exporters.run import ExportReport
    from mmdata.frame_cache import CacheReport
    from mmdata.mixture import Cache, Mixture
    from mmdata.store import Store
    from mmdata.templates import Template

__all__ = ["cli", "main"]

EXAMPLE = """
\b
Example:
  mmdata convert llava llava_v1_5_mix665k.json -o stores/mix665k --media-root images/
  mmdata info stores/mix665k
  mmdata show stores/mix665k 0
"""

STORE = click.Path(path_type=Path)
CONVERT = partial(OptionType, "mmdata.conversion:convert")
FRAMES = partial(OptionType, "mmdata.frame_cache:cache_frames")
SELECT = partial(OptionType, "mmdata.mixture:select")
PREVIEW = partial(OptionType, "mmdata.report:preview")
EXPORT = partial(OptionType, "mmdata.exporters.run:export")
RESIZE = ResizeType("mmdata.frame_cache:cache_frames", "resize")
WORKERS = click.option(
    "--workers", type=CONVERT("workers"), help="Processes that decode.  [default: one a core]"
)
_MEDIA_NOTES = {
    "without_media": "rows without any, among others that have some",
    "unplaced": "named, but nowhere in the words",
    "doubled": "again in a row that has them already",
}
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
STRICT = click.option(
    "--strict", is_flag=True, help="Show the traceback of a fault in another package's template."
)


def TEMPLATE(command: Callable[..., None]) -> Callable[..., None]:  # noqa: N802 - a decorator like its neighbours
    """Add the options of commands that read conversations as a model family does."""
    options = (
        click.option("--template", metavar="FAMILY", help="Read as a model family does."),
        click.option(
            "--tokenizer", type=STORE, help="The family's vocabulary file, or its folder."
        ),
        click.option("--template-option", "template_options", multiple=True, metavar="KEY=VALUE"),
        STRICT,
    )
    for option in reversed(options):
        command = option(command)
    return command


def main() -> None:
    """Run the command and leave with its exit code:
    0 done, 1 the data is at fault, 2 the call is.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        say(shown.getvalue().rstrip("\n"), err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        say("mmdata: stopped; nothing half-written is left", err=True)
        sys.exit(130)
    except MMDataError as error:
        say(f"mmdata: {error}", err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        say(
            f"mmdata: {error.strerror or error}{f': {error.filename}' if error.filename else ''}",
            err=True,
        )
        sys.exit(1)
    except Exception:
        # The last line: what has no name of ours is a fault of ours, and its text may be anybody's.
        say(
            f"{traceback.format_exc()}mmdata: this is a fault in mmdata itself; "
            "please report it with the lines above",
            err=True,
        )
        sys.exit(1)


@contextmanager
def _plugin_traceback(strict: bool) -> Iterator[None]:
    """Show under ``strict`` where another package's code is at fault, to whoever writes it."""
    try:
        yield
    except PluginError as error:
        if strict and error.__cause__ is not None:
            say("".join(traceback.format_exception(error.__cause__)).rstrip(), err=True)
        raise


def say(text: str, *, err: bool = False) -> None:
    """Print for people and programs:
    the one way out, where nothing that others wrote can steer a terminal.
    """
    click.echo(visible(text), err=err)


@click.group(
    invoke_without_command=True,
    epilog=EXAMPLE,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(mmdata.__version__)
@click.pass_context
def cli(context: click.Context) -> None:
    """Multimodal fine-tuning data:
    any source in, one Arrow conversation store out, every record accounted for.
    """
    if context.invoked_subcommand is None:
        say(context.get_help())


@cli.command()
@click.argument("name", required=False)
@JSON
def formats(name: str | None, as_json: bool) -> None:
    """List the source formats, or show the shape and the options of one."""
    from mmdata.formats import describe, summaries

    if name is not None:
        say(describe(name))
        return
    known = summaries()
    say(json.dumps(known, indent=1) if as_json else _columns(known.items()))


@cli.command(
    epilog="""
\b
Examples:
  mmdata convert rwf2000 RWF-2000/ -o stores/rwf --option language=en
  mmdata convert video178k 0_30_s_academic_v0_1/ 1_2_m_nextqa/ -o stores/videos --check decode
"""
)
@click.argument("format_name", metavar="FORMAT")
@click.argument("sources", nargs=-1, required=True, type=STORE)
@click.option(
    "-o", "--output", "store", required=True, type=STORE, help="Where the store shall appear."
)
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the format (`mmdata formats FORMAT`).",
)
@click.option("--media-root", type=STORE, help="The folder that media paths are relative to.")
@click.option(
    "--split",
    type=SplitType("mmdata.conversion:convert", "split"),
    help="The split of every row, or the share of each: train=0.9,val=0.1.",
)
@click.option(
    "--split-by",
    type=CONVERT("split_by"),
    default="media",
    show_default=True,
    help="What shares keep together: rows about one medium, or of one id.",
)
@click.option(
    "--seed",
    type=CONVERT("seed"),
    default=0,
    show_default=True,
    help="Another seed divides into other shares.",
)
@click.option(
    "--check",
    type=CONVERT("check"),
    default="exists",
    show_default=True,
    help="How hard to look at media; probe and decode keep the size and a hash of each file.",
)
@click.option("--embed", is_flag=True, help="Put the media's bytes into the store.")
@WORKERS
@click.option("--limit", type=CONVERT("limit"), help="Read only so many records.")
@click.option("--strict", is_flag=True, help="Stop at the first record that cannot be kept.")
@click.option("--resume", is_flag=True, help="Use what a stopped attempt found out about media.")
@click.option("--overwrite", is_flag=True, help="Replace the store that is there.")
@click.option("--allow-outside", is_flag=True, help="Admit media outside the media root.")
@click.option(
    "--allow-fields",
    multiple=True,
    metavar="NAME[,NAME…]",
    help="Keep fields in `extra` that change what a record means and are not understood.",
)
@click.option("--parquet", is_flag=True, help="Write Parquet instead of Arrow files.")
@click.option(
    "--duplicate-ids",
    type=CONVERT("duplicate_ids"),
    default="number",
    show_default=True,
    help="What becomes of an id that is taken by a record with other content.",
)
@JSON
def convert(
    format_name: str,
    sources: Sequence[Path],
    store: Path,
    options: Sequence[str],
    allow_fields: Sequence[str],
    as_json: bool,
    **settings: Any,
) -> None:
    """Convert SOURCES of a FORMAT into a store."""
    from mmdata._tools.progress import progress
    from mmdata.conversion import convert as run

    allowed = [name for names in allow_fields for name in names.split(",")]
    with progress(f"converting {format_name}") as update, _plugin_traceback(settings["strict"]):
        report = run(
            format_name,
            sources,
            store,
            options=_options(options),
            allow_fields=allowed,
            progress=update,
            **settings,
        )
    _report(report, as_json)


@cli.command(
    epilog="""
\b
Annotation files (json_path) are converted into stores first, which are kept in mmdata/mixtures in
$XDG_CACHE_HOME, or else in ~/.cache, and used again until a file, a medium's presence, the format
or mmdata itself has changed.
\b
Examples:
  mmdata mix mix.yaml --plan
  mmdata mix mix.yaml -o stores/mixed --seed 0
  mmdata mix --clear-cache
"""
)
@click.argument("config", type=STORE, required=False)
@click.option("-o", "--output", "store", type=STORE, help="Where the store shall appear.")
@click.option("--plan", is_flag=True, help="Show what it would take, and write nothing.")
@click.option(
    "--seed",
    type=OptionType("mmdata.mixture:Mixture.from_yaml", "seed"),
    default=0,
    show_default=True,
)
@click.option("--overwrite", is_flag=True, help="Replace the store that is there.")
@click.option("--parquet", is_flag=True, help="Write Parquet instead of Arrow files.")
@click.option(
    "--cache", type=STORE, metavar="DIR", help="Where the stores of annotation files are kept."
)
@click.option(
    "--clear-cache",
    is_flag=True,
    help="Remove the stores of annotation files, and do nothing else.",
)
@JSON
def mix(
    config: Path | None,
    store: Path | None,
    plan: bool,
    seed: int,
    overwrite: bool,
    parquet: bool,
    cache: Path | None,
    clear_cache: bool,
    as_json: bool,
) -> None:
    """Make one store of a mixing YAML, or show with --plan what it would take."""
    from mmdata._tools.paths import local_path
    from mmdata._tools.progress import progress
    from mmdata.mixture import Cache, Mixture, write_mixture

    kept = Cache.at(cache)
    if clear_cache:
        if config is not None or store is not None or plan:
            raise UsageError("--clear-cache goes alone, or with --cache DIR")
        size = kept.clear()
        gone = {"cache": str(kept.folder), **asdict(size)}
        say(
            json.dumps(gone)
            if as_json
            else f"removed {size.stores:,} stores, {_size(size.bytes)}: {kept.folder}"
        )
        return
    if config is None or (store is None) != plan:
        raise UsageError("mmdata mix takes a CONFIG and either -o STORE, or --plan to look first")
    if store is not None:
        local_path(store, "store")  # before data sets are converted
    with progress("converting annotation files") as update:
        mixture = Mixture.from_yaml(config, seed=seed, cache=cache, progress=update)
    if store is not None:
        with progress("mixing", len(mixture)) as update:
            write_mixture(mixture, store, overwrite=overwrite, parquet=parquet, progress=update)
    if as_json:
        say(json.dumps([asdict(row) for row in mixture.plan()], default=str))
    else:
        say(_plan(mixture, kept))
        if store is not None:
            say(f"wrote {store}")
    if mixture.why_empty is not None:
        raise DataError(mixture.why_empty)


def _plan(mixture: Mixture, cache: Cache) -> str:
    """Return for people what a mixture takes,
    what was not kept of its data sets, and where the cache is.
    """
    from mmdata.rejects import Reason

    rows = mixture.plan()
    header = ("data set", "rows", "rejects", "strategy", "selected", "drawn", "share")
    body = [
        (
            r.name,
            f"{r.rows:,}",
            f"{r.rejects:,}",
            r.sampling_strategy,
            f"{r.selected:,}",
            f"{r.draws:,}",
            f"{r.share:.1%}",
        )
        for r in rows
    ]
    lines = [_columns([header, *body, ("together", "", "", "", "", f"{len(mixture):,}", "")])]
    for row in rows:
        lines += [
            f"{row.name}: {n:,} {code}  {Reason.of(code).explanation}"
            for code, n in row.reasons.items()
        ]
        lines += [f"{row.name}: all rejects are in {row.store / REJECTS}"] if row.rejects else []
    size = cache.size()
    lines.append(
        f"cache of annotation files: {cache.folder}, {size.stores:,} stores, {_size(size.bytes)}"
    )
    return "\n".join(lines)


@cli.command(
    epilog="""
\b
EXPRESSION is DuckDB's SQL over the columns of a store (id, source, split, messages, media, extra,
tools, rejected, desirable) and turns, words, characters, trained_characters, media_per_row.
\b
Examples:
  mmdata select stores/all -o stores/short --where "turns <= 4 and media[1].duration < 30"
  mmdata select stores/all -o stores/some --drop-duplicates --sample random:1000 --seed 7
"""
)
@click.argument("source", metavar="STORE", type=STORE)
@click.option(
    "-o", "--output", "store", required=True, type=STORE, help="Where the new store shall appear."
)
@click.option("--where", metavar="EXPRESSION", help="Keep the rows that this is true of.")
@click.option(
    "--drop-duplicates",
    is_flag=True,
    help="Keep the first of the rows that say the same about the same media.",
)
@click.option(
    "--sample",
    metavar="STRATEGY",
    default="all",
    show_default=True,
    help="Which of what is left: random:1000, first:10%, end:5 ...",
)
@click.option(
    "--seed",
    type=SELECT("seed"),
    default=0,
    show_default=True,
    help="Another seed draws other rows.",
)
@click.option("--overwrite", is_flag=True, help="Replace the store that is there.")
@click.option("--parquet", is_flag=True, help="Write Parquet instead of Arrow files.")
@JSON
def select(source: Path, store: Path, as_json: bool, **settings: Any) -> None:
    """Write some rows of STORE into a new store."""
    from mmdata._tools.progress import progress
    from mmdata.mixture import select as run

    with progress("selecting", len(mmdata.open(source))) as update:
        report = run(source, store, progress=update, **settings)
    if as_json:
        say(json.dumps(asdict(report), default=str))
    else:
        lines = [
            ("rows", f"{report.rows:,}"),
            ("asked for", f"{report.where:,}"),
            ("duplicates", f"{report.duplicates:,}"),
            ("selected", f"{report.selected:,}"),
            ("store", str(report.store)),
        ]
        say(_columns(lines))
    if not report.selected:
        raise DataError(f"no row of {source} was selected")


@cli.command()
@click.argument("sources", metavar="STORE...", nargs=-1, required=True, type=STORE)
@click.option(
    "-o", "--output", "store", required=True, type=STORE, help="Where the new store shall appear."
)
@click.option("--overwrite", is_flag=True, help="Replace the store that is there.")
@click.option("--parquet", is_flag=True, help="Write Parquet instead of Arrow files.")
def merge(sources: Sequence[Path], store: Path, overwrite: bool, parquet: bool) -> None:
    """Write all rows of STOREs, one store after the other, into a new one."""
    from mmdata._tools.progress import progress
    from mmdata.mixture import merge as run

    with progress("merging") as update:
        made = run(sources, store, overwrite=overwrite, parquet=parquet, progress=update)
    say(f"wrote {store}: {len(made):,} rows of {len(sources)} stores")


@cli.command()
@click.argument("store", type=STORE)
@TEMPLATE
@click.option(
    "--max-length",
    type=OptionType("mmdata.report.lengths:Lengths.as_text", "limit"),
    help="With --template: count the samples that are longer.",
)
@JSON
def info(store: Path, max_length: int | None, strict: bool, as_json: bool, **reading: Any) -> None:
    """Show what a store holds and what was not kept; with --template, how long its conversations
    are for a model.
    """
    opened = mmdata.open(store)
    with _plugin_traceback(strict):
        if template := _template(**reading):
            from mmdata.report.lengths import measure_lengths

            say(measure_lengths(opened.rows(located=True), template).as_text(limit=max_length))
            return
    manifest = opened.manifest
    if as_json:
        say(json.dumps(asdict(manifest)))
        return
    say(_columns(_description(opened)))


def _description(store: Store) -> list[tuple[str, str]]:
    manifest = store.manifest
    size, rejects = (
        sum(shard.bytes for shard in manifest.shards),
        manifest.records_in - manifest.rows,
    )
    options = json.dumps(dict(manifest.options)) if manifest.options else ""

    return [
        ("store", str(store.path)),
        ("rows", f"{manifest.rows:,} in {len(manifest.shards)} shards, {_size(size)}"),
        ("format", f"{manifest.format} {options}".strip()),
        ("media root", str(store.media_root or "none")),
        *(("split", f"{name}: {count:,}") for name, count in manifest.splits.items()),
        *_notes(manifest.notes),
        *(("source", f"{name}: {count:,}") for name, count in manifest.sources.items()),
        ("records in", f"{manifest.records_in:,} = {manifest.rows:,} rows + {rejects:,} rejects"),
        *(("reject", f"{reason}: {count:,}") for reason, count in manifest.rejects.items()),
        *_parts(manifest.notes.get("parts", ())),
        ("created", f"{manifest.created} by mmdata {manifest.library_version}"),
    ]


def _notes(notes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield for people how splits were found, and what of the rows they may not expect."""
    if "detected" in notes:
        yield "format found", notes["detected"]
    if division := notes.get("split"):
        shares = ",".join(f"{name}={share:g}" for name, share in division["shares"].items())
        yield "held out", f"{shares} by {division['by']}, seed {division['seed']}"
    for split, found in notes.get("split_names", {}).items():
        files = f"{found['files']:,} files, the first" if found["files"] > 1 else "the name of"
        yield "split by name", f"{split}: {files} {found['first']}"
    for split, count in notes.get("split_fields", {}).items():
        yield "split by field", f"{split}: {count:,} rows whose field 'split' says so"
    for name, count in notes.get("extra", {}).items():
        yield "in extra", f"{name}: {count:,}"
    for note, words in _MEDIA_NOTES.items():
        if count := notes.get(note):
            yield "media", f"{count:,} {words}"


def _parts(parts: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield for people what a mixture was made of, and where that was."""
    for part in parts:
        taken = f"{part['draws']:,} of {part['rows']:,} rows ({part['sampling_strategy']})"
        yield "part", f"{part['name']}: {taken}, {part['rejects']:,} rejects, {part['store']}"


@cli.command(
    epilog="""
\b
Example:
  mmdata show stores/rwf 3 --template FAMILY --tokenizer tokenizer.model
""",
    context_settings={"ignore_unknown_options": True},  # -1 is the last row
)
@click.argument("store", type=STORE)
@click.argument("index", type=int, default=0)
@TEMPLATE
@click.option(
    "--prompt",
    is_flag=True,
    help="With --template: the prompt of its last question, for prediction.",
)
@click.option("--color/--no-color", default=None, help="Colours.  [default: on a terminal]")
@JSON
def show(
    store: Path,
    index: int,
    prompt: bool,
    color: bool | None,
    strict: bool,
    as_json: bool,
    **reading: Any,
) -> None:
    """Show one conversation of a store;
    with --template, its tokens and which of them are trained on.
    """
    import msgspec

    from mmdata.report.text import conversation_text

    opened = mmdata.open(store)
    if not -len(opened) <= index < len(opened):
        raise UsageError(f"{store} has {len(opened)} rows; there is no row {index}")
    with _plugin_traceback(strict):
        if template := _template(**reading):
            from rich.console import Console

            from mmdata.report.tokens import conversation_tokens

            Console(force_terminal=color, soft_wrap=True).print(
                conversation_tokens(opened.located(index), template, prompt=prompt)
            )
            return
    conversation = opened[index]
    if as_json:
        say(json_text(msgspec.json.encode(conversation).decode()))
        return
    say(conversation_text(conversation))


@cli.command()
@click.argument("store", type=STORE)
@TEMPLATE
@click.option(
    "--seq-length",
    "seq_lengths",
    type=OptionType("mmdata.report.lengths:Lengths.over", "limit"),
    multiple=True,
    help="With --template: count the rows that are longer; may be said several times.",
)
@JSON
def stats(
    store: Path, seq_lengths: Sequence[int], strict: bool, as_json: bool, **reading: Any
) -> None:
    """Count what a store holds: turns, words, media, their sizes and durations, what is trained on,
    duplicates; with --template, tokens.
    """
    from mmdata._tools.progress import progress
    from mmdata.report.lengths import measure_lengths
    from mmdata.report.statistics import stats as run

    opened = mmdata.open(store)
    with progress("counting", len(opened)) as update:
        found = run(opened, progress=update)
    lines, told = list(found.lines()), asdict(found)
    with _plugin_traceback(strict):
        if template := _template(**reading):
            lengths = measure_lengths(opened.rows(located=True), template)
            over = {limit: lengths.over(limit) for limit in seq_lengths}
            told["lengths"] = {**lengths.summary(), "over": over}
            lines += [("tokens", str(lengths.spread))]
            lines += [("tokens trained on", f"{lengths.trained_share:.1%}")]
            lines += [(f"over {limit:,} tokens", f"{count:,}") for limit, count in over.items()]
            lines += [("not encoded", f"{len(lengths.failed):,}")] if lengths.failed else []
    say(json.dumps(told) if as_json else _columns(lines))


@cli.command(
    epilog="""
\b
Example:
  mmdata preview stores/rwf -o rwf.html --template FAMILY --tokenizer tokenizer.model
"""
)
@click.argument("store", type=STORE)
@click.option(
    "-o", "--output", "page", required=True, type=STORE, help="Where the page shall appear."
)
@TEMPLATE
@click.option(
    "--rows", type=PREVIEW("rows"), default=200, show_default=True, help="Conversations to show."
)
@click.option(
    "--seed",
    type=PREVIEW("seed"),
    default=0,
    show_default=True,
    help="Another seed draws other rows.",
)
@click.option("--overwrite", is_flag=True, help="Replace the page that is there.")
@JSON
def preview(
    store: Path,
    page: Path,
    rows: int,
    seed: int,
    overwrite: bool,
    strict: bool,
    as_json: bool,
    **reading: Any,
) -> None:
    """Write a page that shows a sample of a store as a model will read it."""
    from mmdata._tools.progress import progress
    from mmdata.report import preview as run

    opened = mmdata.open(store)
    with (
        _plugin_traceback(strict),
        progress("drawing", min(rows, len(opened))) as update,
    ):
        report = run(
            opened,
            page,
            template=_template(**reading),
            rows=rows,
            seed=seed,
            overwrite=overwrite,
            progress=update,
        )
    if as_json:
        say(json.dumps(asdict(report), default=str))
        return
    say(f"wrote {report.page}: {report.rows:,} rows, {report.faults:,} with a fault")


def _template(
    template: str | None, tokenizer: Path | None, template_options: Sequence[str]
) -> Template | None:
    """Return the template that a command was asked to read with, if it was."""
    if template is None:
        return None
    from mmdata import templates

    templates.registry.get(template)  # an unknown name is said first
    if tokenizer is None:
        raise UsageError("--template wants --tokenizer FILE, the vocabulary of the model family")
    options = _options(template_options, "--template-option")
    return templates.make(template, templates.load_tokenizer(template, tokenizer), options)


@cli.command()
@click.argument("store", type=STORE)
@click.option(
    "--media",
    is_flag=True,
    help="Compare every media file with the size and hash that the store keeps.",
)
@click.option("--decode", is_flag=True, help="Compare and decode every medium too.")
@WORKERS
def check(store: Path, media: bool, decode: bool, workers: int | None) -> None:
    """Read every byte of a store and say whether it is whole;
    with --media or --decode, its media too.
    """
    from mmdata._tools.paths import local_path
    from mmdata.store import check as run

    if not local_path(store, "store").exists():
        raise UsageError(f"there is no store at {store}")
    faults = [str(fault) for fault in run(store)]
    if (media or decode) and not faults:
        faults = _media_faults(store, "decode" if decode else "compare", workers)
    for fault in faults:
        say(f"mmdata: {fault}", err=True)
    if faults:
        sys.exit(1)
    say(f"{store} is whole: {len(mmdata.open(store)):,} rows")
    if media or decode:
        _say_without_hash(store)


@cli.command(
    epilog="""
\b
Example:
  mmdata frames stores/rwf -o stores/rwf-frames --frames uniform:24 --size 224
"""
)
@click.argument("source", metavar="STORE", type=STORE)
@click.option(
    "-o", "--output", "store", required=True, type=STORE, help="Where the new store shall appear."
)
@click.option(
    "--frames", "strategy", required=True, help="Which frames: uniform:24, fps:1:64, seconds:24 ..."
)
@click.option(
    "--size",
    type=FRAMES("size"),
    help="Side of a frame in pixels, or height,width.  [default: as it is]",
)
@click.option(
    "--resize", type=RESIZE, default="fast", show_default=True, help="How; all but fast are exact."
)
@click.option(
    "--codec", type=FRAMES("codec"), default="jpeg", show_default=True, help="webp is lossless."
)
@click.option("--quality", type=FRAMES("quality"), default=90, show_default=True, help="Of JPEG.")
@click.option("--pad", type=FRAMES("pad"), default="none", show_default=True)
@click.option("--snap", type=FRAMES("snap"), default="exact", show_default=True)
@click.option("--on-damage", type=FRAMES("on_damage"), default="raise", show_default=True)
@click.option("--media-root", type=STORE, help="Where the media are now, if they have moved.")
@WORKERS
@click.option("--resume", is_flag=True, help="Go on where a stopped attempt was.")
@click.option("--overwrite", is_flag=True, help="Replace the store that is there.")
@JSON
def frames(source: Path, store: Path, strategy: str, as_json: bool, **settings: Any) -> None:
    """Decode the videos of STORE once: write a new store that holds their frames."""
    from mmdata._tools.progress import progress
    from mmdata.frame_cache import cache_frames

    with progress("decoding", len(mmdata.open(source))) as update:
        report = cache_frames(source, store, strategy, progress=update, **settings)
    _report(report, as_json)


@cli.command(
    epilog="""
\b
Examples:
  mmdata export --list
  mmdata export llava stores/rwf -o exported --drop system
  mmdata export messages stores/rwf -o exported --media copy
"""
)
@click.argument("format_name", metavar="FORMAT", required=False)
@click.argument("store", type=STORE, required=False)
@click.option(
    "-o", "--output", "place", type=STORE, help="Where the directory with the files shall appear."
)
@click.option("--list", "listing", is_flag=True, help="List the formats, or show what FORMAT says.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the format (`mmdata export FORMAT --list`).",
)
@click.option(
    "--media",
    type=EXPORT("media"),
    help="How media leave: by path, as copies, inside.  [default: as FORMAT usually has them]",
)
@click.option(
    "--paths",
    type=EXPORT("paths"),
    default="relative",
    show_default=True,
    help="How paths are spelt: as the store has them, below the media root, or absolute.",
)
@click.option("--media-root", type=STORE, help="Where the media are now, if they have moved.")
@click.option(
    "--drop",
    multiple=True,
    metavar="NAME[,NAME…]",
    help="What is left out of rows; those that say what FORMAT cannot are rejects without.",
)
@click.option("--split", type=EXPORT("split"), help="Write the rows of one split alone.")
@click.option("--strict", is_flag=True, help="Stop at the first row that cannot be written.")
@click.option("--overwrite", is_flag=True, help="Replace the export that is there.")
@JSON
def export(
    format_name: str | None,
    store: Path | None,
    place: Path | None,
    listing: bool,
    options: Sequence[str],
    as_json: bool,
    **settings: Any,
) -> None:
    """Write the rows of STORE in a FORMAT that another tool reads."""
    from mmdata._tools.progress import progress
    from mmdata.exporters import describe, registry, summaries
    from mmdata.exporters.run import export as run

    if listing:
        known = summaries()
        listed = json.dumps(known, indent=1) if as_json else _columns(known.items())
        say(listed if format_name is None else describe(format_name))
        return
    if format_name is None or store is None or place is None:
        raise UsageError("mmdata export takes a FORMAT, a STORE and -o PLACE, or --list")
    registry.get(format_name)  # an unknown name is said first
    opened = mmdata.open(store, media_root=settings.pop("media_root"))
    waiting = progress(f"exporting {format_name}", len(opened))
    with waiting as update, _plugin_traceback(settings["strict"]):
        report = run(
            opened, format_name, place, options=_options(options), progress=update, **settings
        )
    say(json.dumps(asdict(report), default=str) if as_json else _columns(_exported(report)))


def _exported(report: ExportReport) -> list[tuple[str, str]]:
    """Return the account of an export for people."""
    from mmdata.rejects import Reason
    from mmdata.store.layout import EXPORT_REJECTS

    rejected = sum(report.rejects.values())
    lines = [("rows in", f"{report.rows_in:,}"), ("rows", f"{report.rows:,}")]
    lines += [("split", f"{name}: {count:,}") for name, count in report.splits.items()]
    lines.append(("rejects", f"{rejected:,}"))
    for reason, count in report.rejects.items():
        lines.append((f"  {reason}", f"{count:,}  {Reason.of(reason).explanation}"))
    lines += [("  cannot say", f"{what}: {count:,}") for what, count in report.unsayable.items()]
    lines += [("left out", f"{what}: {count:,}") for what, count in report.dropped.items()]
    lines += [("seconds", f"{report.seconds:.1f}"), ("place", str(report.place))]
    if rejected:
        lines.append(("details", str(report.place / EXPORT_REJECTS)))
    return lines


@cli.command(
    epilog="""
\b
PIPELINE is a YAML file:
  store: stores/rwf-frames
  template: {name: FAMILY}
  tokenizer: {path: tokenizer.model}
  stream: {seq_length: 2048, batch_size: 4}
"""
)
@click.argument("pipeline", type=STORE)
@click.option(
    "--steps",
    type=OptionType("mmdata.pipeline.bench:bench", "steps"),
    default=100,
    show_default=True,
    help="Batches to run.",
)
@STRICT
@JSON
def bench(pipeline: Path, steps: int, strict: bool, as_json: bool) -> None:
    """Run the PIPELINE of a YAML file and say how fast it is, and which stage holds it up."""
    from mmdata.pipeline.bench import bench as run

    with _plugin_traceback(strict):
        report = run(pipeline, steps=steps)
    say(
        json.dumps({**asdict(report), "bottleneck": report.bottleneck})
        if as_json
        else _columns(report.rows())
    )


def _say_without_hash(store: Path) -> None:
    from mmdata.conversion.prober import count_without_hash

    if count := count_without_hash(mmdata.open(store)):
        say(
            f"of {count:,} media files it keeps no hash, "
            "so another file in the place of one is not found: "
            "`mmdata convert --check probe` or `decode` keeps hashes"
        )


def _media_faults(store: Path, level: MediaLevel, workers: int | None) -> list[str]:
    from mmdata._tools.progress import progress
    from mmdata.conversion.prober import media_faults

    opened = mmdata.open(store)
    with progress("decoding" if level == "decode" else "comparing", len(opened)) as update:
        found = media_faults(opened, level, workers=workers, progress=update)
        return [
            f"row {fault.row}, id {fault.id!r}: {fault.detail} [{fault.reason}]" for fault in found
        ]


def _size(size: int) -> str:
    """Return a number of bytes in the unit that suits it."""
    unit, divisor = next(
        (pair for pair in (("GB", 1e9), ("MB", 1e6)) if size >= pair[1]), ("kB", 1e3)
    )
    return f"{size / divisor:,.1f} {unit}"


def _options(pairs: Iterable[str], option: str = "--option") -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    if bad := [key for key, equals, _ in split if not equals]:
        raise UsageError(f"{option} {bad[0]}: it wants KEY=VALUE")
    return {key: value for key, _, value in split}


def _report(report: ConvertReport | CacheReport, as_json: bool) -> None:
    """Print the account of a run; where no row was kept, why that is comes first, and the exit code
    is 1.
    """
    if report.why_empty is not None:
        say(f"mmdata: {report.why_empty}", err=True)
    say(json.dumps(asdict(report), default=str) if as_json else _account(report))
    if report.why_empty is not None:
        sys.exit(1)


def _account(report: ConvertReport | CacheReport) -> str:
    """Return the account of a run for people."""
    from mmdata.rejects import Reason

    rejected = sum(report.rejects.values())
    lines = [
        ("records in", f"{report.records_in:,}"),
        ("rows", f"{report.rows:,}"),
        ("rejects", f"{rejected:,}"),
        *(
            (f"  {reason}", f"{count:,}  {Reason.of(reason).explanation}")
            for reason, count in report.rejects.items()
        ),
    ]
    lines += [("split", f"{name}: {n:,}") for name, n in getattr(report, "splits", {}).items()]
    lines += _notes(getattr(report, "notes", {}))
    if renamed := getattr(report, "renamed_ids", 0):
        lines.append(("numbered ids", f"{renamed:,}"))
    if resumed := getattr(report, "resumed", 0):
        lines.append(("from before", f"{resumed:,}"))
    lines += [("seconds", f"{report.seconds:.1f}"), ("store", str(report.store))]
    if rejected:
        lines.append(("details", str(report.store / "rejects.jsonl")))
    return _columns(lines)


def _columns(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of text as aligned columns."""
    table = [tuple(map(one_line, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )
