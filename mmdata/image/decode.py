"""From the bytes of an image to upright RGB pixels."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from mmdata._tools.limits import Limits
from mmdata._tools.options import PositiveInt, checked
from mmdata.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["Source", "decode", "load", "size_of"]

Source: TypeAlias = str | os.PathLike[str] | bytes

# What data sets hold. Others stay closed: some of Pillow's readers start programs (EPS) or open
# further files.
_FORMATS: Final = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    "AVIF",
    "JPEG2000",
    "PPM",
    "ICO",
    "TGA",
)
_ORIENTATION: Final = 0x0112  # EXIF tag
_SIDEWAYS: Final = range(5, 9)  # its values that exchange width and height
# What Pillow's readers raise on bytes that are not what they claim to be.
_BROKEN: Final = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError,
    struct.error, zlib.error,
)  # fmt: skip


@checked
def decode(
    source: Source,
    *,
    draft: tuple[PositiveInt, PositiveInt] | None = None,
    upright: bool = True,
    limits: Limits | None = None,
) -> NDArray[np.uint8]:
    """Return the pixels of an image, (height, width, 3) uint8 RGB; of an animation its first frame.

    Alpha is dropped, palettes, grey and CMYK are converted, 16-bit samples keep their high byte.
    ``draft`` (height, width) lets a JPEG be decoded at a half, a quarter or an eighth while it
    stays at least that large. ``upright=False`` leaves the EXIF orientation out, as some upstream
    programs do.

    Raises:
        ImageError: with ``path`` and ``reason``: missing, empty, unreadable, cut short, or beyond
            ``limits``.
    """
    import numpy as np

    return np.array(load(source, draft=draft, upright=upright, limits=limits))


@checked
def load(
    source: Source,
    *,
    draft: tuple[PositiveInt, PositiveInt] | None = None,
    upright: bool = True,
    limits: Limits | None = None,
) -> Image:
    """Return an image as :func:`decode` does, in Pillow's hands: to resize it there spares copies.

    Raises:
        ImageError: as :func:`decode`.
    """
    from PIL import ImageOps

    with _open(source, limits or Limits()) as image:
        if draft is not None:
            image.draft("RGB", draft if upright and _is_sideways(image) else (draft[1], draft[0]))
        image.load()
        if upright:
            ImageOps.exif_transpose(image, in_place=True)
        return image if image.mode == "RGB" else _rgb(image)


@checked
def size_of(source: Source, *, limits: Limits | None = None) -> tuple[int, int]:
    """Return height and width of an image as presented; only its header is read.

    Raises:
        ImageError: as :func:`decode`, as far as the header shows it.
    """
    with _open(source, limits or Limits()) as image:
        return (image.width, image.height) if _is_sideways(image) else (image.height, image.width)


def _is_sideways(image: Image) -> bool:
    return image.getexif().get(_ORIENTATION) in _SIDEWAYS


@contextmanager
def _open(source: Source, limits: Limits) -> Iterator[Image]:
    """Open an image; whatever fails in the body becomes an :class:`ImageError`."""
    from PIL import Image

    name = f"<{len(source)} bytes>" if isinstance(source, bytes) else os.fspath(source)
    try:
        with Image.open(_file(source, name), formats=_FORMATS) as image:
            if image.width * image.height > limits.pixels:
                raise _too_large(name, f"{image.width}x{image.height} pixels", limits)
            yield image
    except Image.DecompressionBombError as error:
        raise _too_large(name, str(error), limits) from error
    except MemoryError as error:
        raise ImageError(
            f"{name}: needs more memory than there is", path=name, reason="media_limit"
        ) from error
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file", path=name, reason="missing_media") from error
    except _BROKEN as error:
        reason = "damaged_media" if "truncated" in str(error) else "unreadable_media"
        raise ImageError(
            f"{name}: cannot be decoded as an image: {error}", path=name, reason=reason
        ) from error


def _file(source: Source, name: str) -> io.BytesIO | Path:
    if source == b"" or (not isinstance(source, bytes) and Path(source).stat().st_size == 0):
        raise ImageError(f"{name}: the file is empty", path=name, reason="empty_media")
    return io.BytesIO(source) if isinstance(source, bytes) else Path(source)


def _rgb(image: Image) -> Image:
    import numpy as np
    from PIL.Image import fromarray

    if not image.mode.startswith("I"):
        return image.convert("RGB")
    # 16-bit grey, which Pillow's own conversion would clip at 255.
    high = np.asarray(image).astype(np.uint32) >> 8
    return fromarray(high.astype(np.uint8)).convert("RGB")


def _too_large(name: str, found: str, limits: Limits) -> ImageError:
    return ImageError(
        f"{name}: {found} are beyond the limit of {limits.pixels} pixels; "
        "raise Limits(pixels=...) if it is meant",
        path=name,
        reason="media_limit",
    )
