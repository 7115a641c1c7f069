"""Make the pack anew: ``python -m tests.pack.make``,
with FFmpeg and the packages that README.md names.

What is made depends on nothing but these programs: the same versions give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from importlib.metadata import version

from tests.pack.making import annotations as annotation_files
from tests.pack.making import (
    clips,
    cogvlm2,
    cogvlm2_model,
    llava,
    llava_model,
    pictures,
    qwen,
    visualglm,
    visualglm_model,
    vocabularies,
)
from tests.pack.making.writing import FIXTURES, GOLDEN, PACK

_SUBJECTS = (
    vocabularies,
    pictures,
    clips,
    annotation_files,
    llava,
    llava_model,
    cogvlm2,
    cogvlm2_model,
    qwen,
    visualglm,
    visualglm_model,
)
_PACKAGES = ("numpy", "pillow", "safetensors", "sentencepiece", "tiktoken", "torch", "transformers")


def main() -> None:
    """Make everything;
    the order counts only for the vocabularies and the pictures, which others read.
    """
    for folder in (GOLDEN, FIXTURES):
        shutil.rmtree(folder, ignore_errors=True)
    for subject in _SUBJECTS:
        subject.make()
    files = sorted(
        path for folder in (GOLDEN, FIXTURES) for path in folder.rglob("*") if path.is_file()
    )
    hashes = {
        path.relative_to(PACK).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
    contents = json.dumps({"made_with": _versions(), "sha256": hashes}, indent=1)
    (PACK / "contents.json").write_text(f"{contents}\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    told = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout
    python = ".".join(map(str, sys.version_info[:2]))
    return {"python": python, "ffmpeg": told.split()[2]} | {
        name: version(name) for name in _PACKAGES
    }


if __name__ == "__main__":
    main()
