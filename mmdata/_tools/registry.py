"""Names to things: one file a thing, found on first use, open to other packages.

A registry belongs to a package of ours (``mmdata.formats``, ``mmdata.templates``). The name ``x``
is looked up in the module ``<package>.x``, then among the entry points of the group of the
package's name, so that adding a thing adds a file (or an entry point) and touches nothing else. One
that belongs to a single module has its entries in that file.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from mmdata.errors import MMDataError, PluginError, UnknownNameError, nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Registry", "blame"]

T = TypeVar("T")


class Registry(Generic[T]):
    """What is registered under a name in one package, ours or an entry point's.

    >>> from mmdata.formats import registry
    >>> "rwf2000" in registry, "rwf2000" in registry.names()
    (True, True)
    """

    def __init__(self, package: str, kind: str, *, besides: frozenset[str] = frozenset()) -> None:
        """``besides`` names the public modules of the package that are not entries;
        private ones never are.
        """
        self._package = package
        self._kind = kind
        self._besides = besides
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that records what it decorates under ``name``;
        a name taken twice is a ``ValueError``.
        """

        def record(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self._kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return record

    def names(self) -> list[str]:
        """Return every name, ours and the entry points', sorted;
        nothing is imported but our own package.
        """
        return sorted(self._ours() | self._entry_points().keys() | self._entries.keys())

    def __contains__(self, name: str) -> bool:
        """Return whether something has the name. What was got before, and what is ours, is known
        without a look at what is installed, which takes its time.
        """
        return name in self._entries or name in self._ours() or name in self._entry_points()

    def get(self, name: str) -> T:
        """Return what is registered under ``name``.

        Raises:
            UnknownNameError: no such name; the message lists those there are.
            PluginError: another package brings it, and it cannot be imported.
        """
        if name not in self._entries:
            self._load(name)
        return self._entries[name]

    def plugin_of(self, entry: object) -> str | None:
        """Return which package and entry point something that was got here came from;
        None for what is our own.
        """
        names = [
            name
            for name, known in self._entries.items()
            if known is entry and name not in self._ours()
        ]
        if not names:
            return None  # without a look at what is installed, which takes its time
        points = self._entry_points()
        return next((self._describe(points[name]) for name in names if name in points), None)

    @contextmanager
    def blame_plugin(self, entry: object) -> Iterator[None]:
        """Turn what an entry of another package stumbles over into an error that names it.

        Raises:
            PluginError: with the entry's own exception as its cause.
        """
        with blame(lambda: self.plugin_of(entry)):
            yield

    def _describe(self, point: EntryPoint) -> str:
        package = (
            f"the package {point.dist.name} {point.dist.version}"
            if point.dist
            else "another package"
        )
        return f"the {self._kind} {point.name!r} of {package} (entry point {point.value})"

    def _load_plugin(self, point: EntryPoint) -> T:
        try:
            return point.load()  # type: ignore[no-any-return]
        except Exception as error:
            # Another package's code: whatever it stumbles over is its own fault, and is named.
            raise PluginError(
                f"{self._describe(point)} cannot be imported: {type(error).__name__}: {error}. "
                "Mend or uninstall that package."
            ) from error

    def _load(self, name: str) -> None:
        if name in self._ours():
            importlib.import_module(f"{self._package}.{name}")
        elif name in (points := self._entry_points()):
            self._entries.setdefault(name, self._load_plugin(points[name]))
        else:
            known = self.names()
            raise UnknownNameError(
                f"no {self._kind} named {name!r}.{nearest(name, known)} "
                f"There are: {', '.join(known)}."
            )

    def _ours(self) -> set[str]:
        spec = importlib.import_module(self._package).__spec__
        # None for a module, which has none below it.
        folders = spec.submodule_search_locations if spec else None
        return {
            module.name
            for module in pkgutil.iter_modules(folders or [])
            if self._is_entry(module.name)
        }

    def _entry_points(self) -> dict[str, EntryPoint]:
        # Imported here: it takes longer than all else in this module, and is seldom needed.
        from importlib.metadata import entry_points

        return {point.name: point for point in entry_points(group=self._package)}

    def _is_entry(self, module: str) -> bool:
        return not module.startswith("_") and module not in self._besides


@contextmanager
def blame(find_plugin: Callable[[], str | None]) -> Iterator[None]:
    """Turn what is stumbled over into an error that names the plug-in which is at fault.

    ``find_plugin`` says which that is; None for code of our own, whose exceptions stay as they are.

    Raises:
        PluginError: with the plug-in's own exception as its cause.
    """
    try:
        yield
    except (MMDataError, OSError):
        raise  # it says already what is wrong, and where
    except Exception as error:  # another package's code: whatever it stumbles over is its own fault
        plugin = find_plugin()
        if plugin is None:
            raise
        raise PluginError(
            f"{plugin} is at fault: {type(error).__name__}: {error}. --strict shows its traceback."
        ) from error
