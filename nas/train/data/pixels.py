"""One image: from a file's bytes to an array of the wanted channels and size.

Responsible for all that is done with pillow.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from nas.errors import UserError

IMAGE_ENDINGS = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
# By content, whatever a file is called. Pillow knows others: it would have Ghostscript run a PostScript file.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# What pillow raises for files that are truncated, broken, of another kind or absurdly large.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    MemoryError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
_BITS = "must have 8 bits a channel"


def decode(content: bytes, *, name: str) -> NDArray[np.uint8]:
    """An image file as pixels, turned upright as its EXIF says.

    Args:
        content: the bytes of a file in a format that pillow reads; of an animation the first picture.
        name: what to call it in an error.

    Returns:
        ``(h, w, c)`` uint8: ``c`` 1 for grey, 3 for colour, 4 for either with transparency.

    Raises:
        UserError: it cannot be read, or has more than 8 bits a channel.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                image.load()
                return from_pillow(image, name=name)
    except UserError:
        raise
    except UnidentifiedImageError:
        raise _unreadable(name, "it is in no known image format") from None
    except _BROKEN as error:
        raise _unreadable(name, str(error).split("\n")[0] or type(error).__name__) from None


def from_pillow(image: Image.Image, *, name: str) -> NDArray[np.uint8]:
    """A pillow image as pixels, upright; see `decode`."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        raise UserError("data", f"{name} {_BITS}, got pillow's mode {upright.mode}", "convert it to 8 bits")
    if upright.mode in ("1", "L"):
        grey = np.asarray(upright.convert("L"))
        return grey[:, :, None].copy()
    transparent = upright.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info
    return np.asarray(upright.convert("RGBA" if transparent else "RGB")).copy()


def conform(pixels: NDArray[np.uint8], *, channels: int | None, resolution: int | None, name: str) -> NDArray[np.uint8]:
    """Pixels with the wanted channels and size; None leaves either as it is.

    Grey is ITU-R 601 luma, resizing is bilinear over the area that a new pixel covers, transparency is dropped.

    Raises:
        UserError: transparency, and nothing says to drop it.
    """
    if channels is None and pixels.shape[2] == 4:
        raise UserError("data", f"{name} has transparency", "set data.channels=3 (or 1) to drop it")
    if channels is not None and pixels.shape[2] != channels:
        pixels = _with_channels(pixels, channels)
    if resolution is not None and pixels.shape[:2] != (resolution, resolution):
        pixels = _resized(pixels, resolution)
    return pixels


def _with_channels(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    if pixels.shape[2] == 1:
        return np.repeat(pixels, channels, axis=2)
    colour = np.ascontiguousarray(pixels[:, :, :3])
    if channels == 3:
        return colour
    return np.asarray(Image.fromarray(colour).convert("L"))[:, :, None]


def _resized(pixels: NDArray[np.uint8], resolution: int) -> NDArray[np.uint8]:
    grey = pixels.shape[2] == 1
    image = Image.fromarray(pixels[:, :, 0] if grey else pixels)
    resized = np.asarray(image.resize((resolution, resolution), Image.Resampling.BILINEAR))
    return resized[:, :, None] if grey else resized


def _unreadable(name: str, reason: str) -> UserError:
    return UserError("data", f"{name} cannot be read as an image ({reason})", "repair it or leave it out")
