"""From the bytes of an image to upright RGB pixels."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, TypeAlias

from mmdata._tools.limits import Limits, how_to_raise
from mmdata._tools.options import PositiveInt, checked
from mmdata.errors import ImageError
from mmdata.image.png import without_large_metadata
from mmdata.storage._media import is_remote, open_medium

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["Alpha", "Source", "decode", "load", "size_of"]

Source: TypeAlias = str | os.PathLike[str] | bytes
Alpha: TypeAlias = Literal["drop", "white"]
"""What becomes of a picture's transparency: it is dropped, or the picture stands on white."""

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
# Names in the first bytes (ISO 14496-12, 4.3) of formats that not every Pillow reads.
_BRANDS: Final = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
}
_AT_ONCE: Final = 16 << 20  # bytes of a remote picture that are read in one request
_ORIENTATION: Final = 0x0112  # EXIF tag
_SIDEWAYS: Final = range(5, 9)  # its values that exchange width and height
# What Pillow's readers raise on bytes that are not what they claim to be.
_BROKEN: Final = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError,
    RuntimeError, struct.error, zlib.error,
)  # fmt: skip


@checked
def decode(
    source: Source,
    *,
    draft: tuple[PositiveInt, PositiveInt] | None = None,
    upright: bool = True,
    alpha: Alpha = "drop",
    limits: Limits | None = None,
) -> NDArray[np.uint8]:
    """Return the pixels of an image, (height, width, 3) uint8 RGB; of an animation its first frame.

    Alpha is dropped, or the picture is put on ``alpha="white"``; palettes, grey and CMYK are
    converted, samples of 9 to 16 bits keep their highest eight. ``draft`` (height, width) lets a
    JPEG be decoded at a half, a quarter or an eighth while it stays at least that large.
    ``upright=False`` leaves the EXIF orientation out, as some upstream programs do; Pillow always
    turns a TIFF.

    Raises:
        ImageError: with ``path`` and ``reason``: missing, empty, unreadable, cut short, or beyond
            ``limits``; or of samples whose white nobody states (32 bits, floats, 12 bits in 16).
    """
    import numpy as np

    return np.array(load(source, draft=draft, upright=upright, alpha=alpha, limits=limits))


@checked
def load(
    source: Source,
    *,
    draft: tuple[PositiveInt, PositiveInt] | None = None,
    upright: bool = True,
    alpha: Alpha = "drop",
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
        is_deep = _has_deep_colours(image)
        image.load()
        if is_deep:
            _refuse_unscaled_colours(image, _name(source))
        if upright:
            ImageOps.exif_transpose(image, in_place=True)
        if alpha == "white" and image.has_transparency_data:
            return _on_white(image)
        return image if image.mode == "RGB" else _rgb(image, _name(source))


@checked
def size_of(source: Source, *, limits: Limits | None = None) -> tuple[int, int]:
    """Return height and width of an image as presented; only its header is read.

    Raises:
        ImageError: as :func:`decode`, as far as the header shows it.
    """
    with _open(source, limits or Limits()) as image:
        return (image.width, image.height) if _is_sideways(image) else (image.height, image.width)


def _is_sideways(image: Image) -> bool:
    from PIL.TiffImagePlugin import TiffImageFile

    # Pillow has turned the size of a TIFF when it opens it, and its pixels when it loads them; but
    # not by the orientation of XMP.
    if isinstance(image, TiffImageFile) and _ORIENTATION in image.tag_v2:
        return False
    return image.getexif().get(_ORIENTATION) in _SIDEWAYS


@contextmanager
def _open(source: Source, limits: Limits) -> Iterator[Image]:
    """Open an image; whatever fails in the body becomes an :class:`ImageError`."""
    from PIL import Image

    name = _name(source)
    try:
        with _file(source, name) as file, _identified(file, name) as image:
            if image.width * image.height > limits.pixels:
                raise _too_large(name, f"{image.width}x{image.height} pixels", limits)
            _refuse_unscaled(image, name)
            yield image
    except Image.DecompressionBombError as error:
        raise _too_large(name, str(error), limits) from error
    except MemoryError as error:
        raise ImageError(
            f"{name}: needs more memory than there is; {how_to_raise('memory')}",
            path=name,
            reason="media_limit",
        ) from error
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file", path=name, reason="missing_media") from error
    except _BROKEN as error:
        reason = "damaged_media" if "truncated" in str(error) else "unreadable_media"
        raise ImageError(
            f"{name}: cannot be decoded as an image: {error}", path=name, reason=reason
        ) from error


def _name(source: Source) -> str:
    return f"<{len(source)} bytes>" if isinstance(source, bytes) else os.fspath(source)


@contextmanager
def _file(source: Source, name: str) -> Iterator[BinaryIO]:
    if not isinstance(source, bytes) and is_remote(source):
        with open_medium(source) as remote:
            # A picture is read nearly whole: at once is many requests fewer than piece by piece.
            whole = remote.size() <= _AT_ONCE
            yield without_large_metadata(
                io.BytesIO(remote.readall()) if whole else io.BufferedReader(remote)
            )
        return
    if source == b"" or (not isinstance(source, bytes) and Path(source).stat().st_size == 0):
        raise ImageError(f"{name}: the file is empty", path=name, reason="empty_media")
    with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
        yield without_large_metadata(file)


def _identified(file: BinaryIO, name: str) -> Image:
    """Return the picture in ``file``, or name the format that this Pillow cannot read."""
    from PIL import Image, UnidentifiedImageError, features

    # The plug-in of another package, where the program has registered it.
    formats = (*_FORMATS, "HEIF") if "HEIF" in Image.OPEN else _FORMATS
    try:
        return Image.open(file, formats=formats)
    except UnidentifiedImageError as error:
        file.seek(0)
        head = file.read(12)
        form = _BRANDS.get(head[8:12]) if head[4:8] == b"ftyp" else None
        if form is None:
            what = "its format is none of " + ", ".join(_FORMATS)
        elif form == "HEIC":
            what = (
                "it is a HEIC picture, which Pillow reads with pillow-heif alone "
                "(pillow_heif.register_heif_opener()); convert it to JPEG, PNG or WebP"
            )
        elif form == "AVIF" and features.check("avif"):
            what = "it is an AVIF picture that is damaged or cut short"
        else:
            what = f"it is an {form} picture, and this Pillow is built without it; update Pillow"
        raise ImageError(f"{name}: cannot be decoded as an image: {what}", path=name) from error


def _refuse_unscaled(image: Image, name: str) -> None:
    """Refuse samples of which nobody states what is black and what white.

    Pillow would cut them at 255, which makes most of them all black or all white. It scales those
    of PPM itself, to 16 bits.
    """
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        kind = "floats" if image.mode == "F" else "signed or 32-bit integers"
        raise ImageError(
            f"{name}: its samples are {kind}, of which nothing says what is white; "
            "convert it to 8 or 16 bits",
            path=name,
        )


def _rgb(image: Image, name: str) -> Image:
    import numpy as np
    from PIL.Image import fromarray

    if not image.mode.startswith("I"):
        return image.convert("RGB")

    # 16-bit grey, which Pillow's own conversion would clip at 255.
    samples = np.asarray(image).astype(np.uint32)  # (height, width)
    brightest = int(samples.max())
    bits = _stated_bits(image)
    if bits == 16 and 0 < brightest < 1 << 12:
        raise _too_dark(name, brightest)
    return fromarray((samples >> (bits - 8)).astype(np.uint8)).convert("RGB")


def _on_white(image: Image) -> Image:
    """Return an image with transparency as it looks on a white page."""
    from PIL.Image import new

    image = image.convert("RGBA")
    page = new("RGB", image.size, "white")
    page.paste(image, mask=image.getchannel("A"))
    return page


def _has_deep_colours(image: Image) -> bool:
    """Return whether a picture that is not loaded yet has colours of 16 bits, of which Pillow takes
    the highest eight as it loads them.
    """
    from PIL.ImageFile import ImageFile

    for tile in image.tile if isinstance(image, ImageFile) else ():
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if any(isinstance(arg, str) and ";16" in arg for arg in args):
            return not image.mode.startswith("I")
    return False


def _refuse_unscaled_colours(image: Image, name: str) -> None:
    """Refuse colours of 12 bits or fewer in 16, as they are refused of grey."""
    colours = image.convert("RGB") if image.mode != "RGB" else image
    brightest = max(int(high) for _, high in colours.getextrema())  # type: ignore[misc]  # a pair a band
    if 0 < brightest < 1 << 4:
        raise _too_dark(name, brightest << 8)


def _too_dark(name: str, brightest: int) -> ImageError:
    return ImageError(
        f"{name}: its brightest sample is {brightest} of 65535; if they are 12 bits or fewer "
        "in 16, scale them to 8 or 16",
        path=name,
    )


def _stated_bits(image: Image) -> int:
    """Return how many bits the samples of a 16-bit grey picture have; only a TIFF says fewer."""
    from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

    return int(image.tag_v2[BITSPERSAMPLE][0]) if isinstance(image, TiffImageFile) else 16


def _too_large(name: str, found: str, limits: Limits) -> ImageError:
    return ImageError(
        f"{name}: {found} are beyond the limit of {limits.pixels} pixels; {how_to_raise('pixels')}",
        path=name,
        reason="media_limit",
    )
