"""YAML files that people write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmdata.errors import ConfigError

if TYPE_CHECKING:
    from yaml.nodes import Node, ScalarNode

__all__ = ["read_yaml"]


def read_yaml(file: Path) -> Any:
    """Return what a YAML file says; None of an empty one.

    Raises:
        ConfigError: it cannot be read, is no YAML, or says a key twice.
    """
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        found = None if root is None else loader.construct_document(root)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read as YAML: {error}") from error
    if (twice := _find_repeated_key(root)) is not None:
        line = twice.start_mark.line + 1
        raise ConfigError(
            f"{file}, line {line}: says {twice.value!r} a second time, which would stand in place "
            "of the first; say it once"
        )
    return found


def _find_repeated_key(root: Node | None) -> ScalarNode | None:
    """Return the first key that a mapping has already: YAML forbids it, PyYAML passes over it."""
    import yaml

    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:  # an alias leads to where it has been, or is
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += reversed(node.value)
        if not isinstance(node, yaml.MappingNode):
            continue
        said: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in said:
                return key
            said.add(str(key.value))
        waiting += reversed([value for _, value in node.value])
    return None
