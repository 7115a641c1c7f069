"""An exporter of another package is found by its entry point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.stores import numbered

MODULE = """
from mmdata.exporters import Exporter


class Captions(Exporter):
    summary = "a path and a caption"
    shape = '{"file": "1.jpg", "caption": "A cup."}'
    says = frozenset()

    def record(self, row):
        return {"file": row.media[0].reference, "caption": row.conversation.messages[-1].text}
"""


def test_an_exporter_of_another_package_is_listed_and_used(tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "captions-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "acme_captions.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: captions\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[mmdata.exporters]\ncaptions = acme_captions:Captions\n"
    )
    numbered(tmp_path / "store", 2)

    def run(*arguments: str) -> str:
        paths = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
        return subprocess.run(
            [sys.executable, "-m", "mmdata", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert "captions " in run("export", "--list")
    run("export", "captions", "store", "-o", "out")
    first, _ = json.loads((tmp_path / "out" / "train.json").read_text())
    assert first == {"file": "images/000000.jpg", "caption": "word0 word0 word0 word0"}
