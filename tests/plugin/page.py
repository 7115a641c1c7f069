"""A how-to page of the documentation as a package that is installed beside ours, and its
commands.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mmdata
from tests.forks import Forks

_ROOT: Final = Path(mmdata.__file__).parents[1]
_FILE: Final = re.compile(r"^```\w+ file=(\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_COMMAND: Final = re.compile(r"^\$ mmdata (.+)$", re.MULTILINE)
_GROUP: Final = re.compile(
    r'^\[project\.entry-points\."([\w.]+)"\]\n((?:\w+ = "[\w:]+"\n)+)', re.MULTILINE
)
_PROJECT: Final = re.compile(r'^name = "([\w-]+)"\nversion = "([\d.]+)"$', re.MULTILINE)


@dataclass(frozen=True)
class Project:
    """The files of a page in ``folder``; its ``module`` is installed in ``folder / "site"``."""

    folder: Path
    module: str
    forks: Forks

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command in the folder, where the package is installed."""
        return self.forks.complete(self.folder, [self.folder / "site"], *arguments)

    def run_module(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a module of Python in the folder, where the package is installed."""
        paths = [str(self.folder / "site"), str(_ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )

    def mend(self, old: str, new: str) -> None:
        """Change the installed module."""
        file = self.folder / "site" / self.module
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))


def page(name: str) -> str:
    """Return the text of a page."""
    return (_ROOT / "docs" / name).read_text()


def commands(name: str) -> list[str]:
    """Return the commands of ``mmdata`` on a page, in order."""
    return _COMMAND.findall(page(name))


def install(name: str, module: str, folder: Path, forks: Forks) -> Project:
    """Write the files of a page, and do what pip does with the package, without a network: its
    module, its metadata and its entry points.
    """
    for path, text in _FILE.findall(page(name)):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)

    project = (folder / "pyproject.toml").read_text()
    [(package, version)] = _PROJECT.findall(project)
    info = folder / "site" / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    groups = [f"[{group}]\n{points}" for group, points in _GROUP.findall(project)]
    (info / "entry_points.txt").write_text("\n".join(groups).replace('"', ""))
    (folder / module).rename(
        folder / "site" / module
    )  # the working folder is searched before all others
    return Project(folder, module, forks)
