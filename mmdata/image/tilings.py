"""Ways to cut a picture into the squares that a model sees of it, by name and open to others.

Each is a function from a picture in Pillow's hands, the side of a square and the canvases to choose
from, (height, width) each, to (views, side, side, 3) uint8; normalisation comes after. A template
names the one that its model wants. Another package adds its own by :func:`register`, and by an
entry point of the group ``mmdata.image.tilings`` makes it known by name to every process:

>>> from PIL import Image
>>> get("anyres")(Image.new("RGB", (40, 20)), 8, [(8, 16), (16, 8)]).shape
(3, 8, 8, 3)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from mmdata._tools.options import checked
from mmdata._tools.registry import Registry
from mmdata.image import anyres

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmdata.image.anyres import Size, Views

__all__ = ["Cut", "Tiling", "get", "names", "register"]

Count: TypeAlias = "Callable[[int, Sequence[Size]], int]"


class Cut(Protocol):
    """A function that cuts a picture into views.

    ``out`` is room, (views, side, side, 3) uint8, for as many as there can be: to write to the
    first of it and return that spares a copy. ``fast`` permits what is only nearly exact. Both may
    be left unused.
    """

    def __call__(
        self,
        picture: Image,
        side: int,
        canvases: Sequence[Size],
        out: Views | None,
        /,
        *,
        fast: bool,
    ) -> Views:
        """Return the views, (views, side, side, 3) uint8."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """A way to tile: ``cut`` makes the views of a picture, ``count`` says from a side and canvases
    how many there can be.
    """

    cut: Cut
    count: Count

    def __call__(
        self,
        picture: Image,
        side: int,
        canvases: Sequence[Size],
        out: Views | None = None,
        *,
        fast: bool = False,
    ) -> Views:
        """Return the views of a picture, (views, side, side, 3) uint8, see :class:`Cut`.

        Raises:
            PluginError: the tiling is another package's, and at fault.
        """
        most = self.max_views(side, canvases)
        with _registry.blame_plugin(self):
            views = self.cut(picture, side, canvases, out, fast=fast)

            fits = views.shape[1:] == (side, side, 3) and views.dtype == "uint8"
            if not fits or not 0 < len(views) <= most:
                raise ValueError(
                    f"a tiling must return (1 to {most}, {side}, {side}, 3) uint8, "
                    f"found {views.shape} {views.dtype}"
                )
            return views

    def max_views(self, side: int, canvases: Sequence[Size]) -> int:
        """Return how many views of a picture there can be, whatever its size.

        Raises:
            PluginError: the tiling is another package's, and at fault.
        """
        with _registry.blame_plugin(self):
            return self.count(side, canvases)


_registry: Registry[Tiling] = Registry(__name__, "way to tile")


@checked
def register(name: str, *, count: Count) -> Callable[[Cut], Cut]:
    """Return a decorator that makes a function known as the tiling ``name``; a name taken twice is
    a ``ValueError``.

    An entry point names a :class:`Tiling` instead.
    """

    def record(cut: Cut) -> Cut:
        _registry.register(name)(Tiling(cut, count))
        return cut

    return record


def get(name: str) -> Tiling:
    """Return the tiling of a name.

    Raises:
        UnknownNameError: no such name; the message lists those there are.
    """
    return _registry.get(name)


def names() -> list[str]:
    """Return the names of all tilings, ours and others', sorted."""
    return _registry.names()


register("anyres", count=anyres.max_views)(anyres.views)
