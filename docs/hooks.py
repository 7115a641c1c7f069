"""What MkDocs asks while it builds the site:
the pages that come from the code, and their place in the navigation.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# A hook is loaded as a file, not as part of a package.
sys.path.insert(0, str(Path(__file__).parents[1]))

from docs.generate import pages, pages_of_repository

_ROOT = Path(__file__).parents[1]
_OPTIONAL = {"write_a_format.md": "Write a format", "write_a_family.md": "Write a family"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages, and the pages that may be absent, into the navigation."""
    generated = [path for path, _ in pages()]
    present = [name for name in _OPTIONAL if (Path(config.docs_dir) / name).exists()]
    navigation: list[Any] = list(config.nav or [])
    position = next(n for n, entry in enumerate(navigation) if "Guarantees" in entry)
    navigation[position:position] = [
        {"Formats": [path for path in generated if path.startswith("formats/")]},
        {"Model families": [path for path in generated if path.startswith("families/")]},
        *({"Extend": [{_OPTIONAL[name]: name} for name in present]} for _ in present[:1]),
    ]
    navigation.append({"Reference": [path for path in generated if path.startswith("reference/")]})
    config.nav = navigation
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for path, content in [*pages(), *pages_of_repository(_ROOT)]:
        files.append(File.generated(config, path, content=content))
    return files
