"""YAML files that people write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmdata.errors import ConfigError

__all__ = ["read_yaml"]


def read_yaml(file: Path) -> Any:
    """Return what a YAML file says; None of an empty one.

    Raises:
        ConfigError: it cannot be read, or is no YAML.
    """
    import yaml

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read as YAML: {error}") from error
