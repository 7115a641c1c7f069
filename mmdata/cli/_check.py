"""``mmdata check``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import mmdata
from mmdata._tools.limits import Limits
from mmdata.cli._account import oddity_lines
from mmdata.cli._say import columns, say
from mmdata.cli._shared import (
    ENGINE,
    JSON,
    LIMITS,
    PARTITIONS,
    STORE,
    WORKERS,
)
from mmdata.errors import UsageError
from mmdata.storage import path_of

if TYPE_CHECKING:
    from mmdata.conversion.prober import MediaLevel

__all__ = ["check"]


@click.command()
@click.argument("store", type=STORE)
@click.option(
    "--media",
    is_flag=True,
    help="Compare every media file with the size and hash that the store keeps.",
)
@click.option("--decode", is_flag=True, help="Compare and decode every medium too.")
@LIMITS
@WORKERS
@ENGINE
@PARTITIONS
@JSON
def check(
    store: Path,
    media: bool,
    decode: bool,
    engine: str,
    address: str | None,
    workers: int | None,
    deadline: float,
    memory: int,
    max_pixels: int,
    as_json: bool,
    **settings: Any,
) -> None:
    """Read every byte of a store and say whether it is whole;
    with --media or --decode, its media too.
    """
    from mmdata.engine.partitions import check_store

    if not path_of(store, "store").exists():
        raise UsageError(f"there is no store at {store}")
    place: dict[str, Any] = {"engine": engine, "address": address, "workers": workers}
    faults = [str(fault) for fault in check_store(store, **place)]
    found: Counter[str] = Counter()
    if (media or decode) and not faults:
        settings |= place
        settings["limits"] = Limits(deadline=deadline, memory=memory, pixels=max_pixels)
        faults = _media_faults(store, "decode" if decode else "compare", settings, found)
    account = _account(store, faults, found, media or decode)
    if as_json:
        say(json.dumps(account))
    elif faults:
        for fault in faults:
            say(f"mmdata: {fault}", err=True)
    else:
        _say_account(account)
    if faults:
        sys.exit(1)


def _account(
    store: Path, faults: Sequence[str], found: Mapping[str, int], with_media: bool
) -> dict[str, Any]:
    """Return what is known of a store; of one that is not whole, what is wrong with it alone."""
    from mmdata.conversion.account import count_oddities
    from mmdata.conversion.prober import count_without_hash

    account: dict[str, Any] = {"store": str(store), "whole": not faults, "faults": list(faults)}
    if faults:
        return account
    opened = mmdata.open(store)
    account["rows"] = len(opened)
    # Only decoding finds them where the rows do not say it.
    account["oddities"] = dict(sorted(found.items())) or dict(count_oddities(opened))
    if with_media:
        account["media_without_hash"] = count_without_hash(opened)
    return account


def _say_account(account: Mapping[str, Any]) -> None:
    say(f"{account['store']} is whole: {account['rows']:,} rows")
    if oddities := account["oddities"]:
        say(columns(oddity_lines(oddities)))
    if count := account.get("media_without_hash"):
        say(
            f"of {count:,} media files it keeps no hash, "
            "so another file in the place of one is not found: "
            "`mmdata convert --check probe` or `decode` keeps hashes"
        )


def _media_faults(
    store: Path, level: MediaLevel, settings: Mapping[str, Any], oddities: Counter[str]
) -> list[str]:
    """Return what is wrong with the media of a store, and count ``oddities`` of those that are
    sound.
    """
    from mmdata.conversion.prober import media_faults

    def count(found: Sequence[Mapping[str, Any]]) -> None:
        for facts in found:
            oddities.update(facts.get("oddities") or ())

    found = media_faults(mmdata.open(store), level, progress=True, seen=count, **settings)
    return [f"row {fault.row}, id {fault.id!r}: {fault.detail} [{fault.reason}]" for fault in found]
