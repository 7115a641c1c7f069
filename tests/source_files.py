"""Sources for tests: LLaVA records and the files they name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def record(number: int, **changes: Any) -> dict[str, Any]:
    """Return a LLaVA record that says its number, with fields changed or, where None, removed."""
    turns = [
        {"from": "human", "value": f"<image>\nWhat is {number}?"},
        {"from": "gpt", "value": f"It is {number}."},
    ]
    whole = {"id": f"r{number}", "image": f"images/{number}.jpg", "conversations": turns, **changes}
    return {key: value for key, value in whole.items() if value is not None}


def write_records(path: Path, records: Sequence[Any], *, lines: bool = False) -> Path:
    """Write records as a JSON array or as JSON Lines, and a file for each image they name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dumped = [json.dumps(each, ensure_ascii=False) for each in records]
    path.write_text(
        "\n".join(dumped) if lines else "[" + ",\n".join(dumped) + "]", encoding="utf-8"
    )
    return path


def write_images(folder: Path, names: Sequence[str]) -> None:
    """Write small files that are there;
    their content is nobody's business where only that is checked.
    """
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\xff\xd8\xff an image")


def source(folder: Path, count: int, **changes: Any) -> Path:
    """Write ``count`` good records and their images; return the JSON."""
    write_images(folder, [f"images/{number}.jpg" for number in range(count)])
    return write_records(
        folder / "source.json", [record(number, **changes) for number in range(count)]
    )
