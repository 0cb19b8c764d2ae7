"""Images to pixels, the same for teacher, student and search; Pillow and numpy only."""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..core.errors import UserError

HEIF = (".heic", ".heif")
SUFFIXES = {  # of what is taken for an image in a folder
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff",
    ".jp2", ".ppm", ".pgm", ".pbm", ".tga", *HEIF,
}  # fmt: skip
# Pillow's readers of those, and no others: it would hand an EPS to Ghostscript, whatever the name.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "TGA")
ORIENTATION = 0x0112  # the EXIF tag
WIDTH, HEIGHT = 0x0100, 0x0101  # TIFF tags
TURNED = (5, 6, 7, 8)  # its values that exchange width and height
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
# What Pillow's readers raise on broken bytes.
BROKEN = (
    OSError, ValueError, SyntaxError, EOFError, ArithmeticError, LookupError, TypeError,
    AttributeError, RuntimeError, MemoryError, struct.error, zlib.error,
)  # fmt: skip
# Of doubtful metadata, and of large images that are still below the limit: nothing to do here.
# For the whole process: catch_warnings is not safe in the threads that read ahead.
warnings.filterwarnings("ignore", module=r"PIL\.")


class TooLarge(UserError):
    """An image of more pixels than are decoded."""


def most_pixels() -> int:
    """Millions of pixels that an image may have."""
    return 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6


def read(path: Path, data: bytes | None = None) -> Image.Image:
    """The image upright (EXIF orientation applied) in 8-bit RGB, decoded. Raises UserError.

    What is transparent shows white, as on a page: the colour stored under it is arbitrary, often
    black. Of 16 bits 65535 is white. Of several frames the first counts. `data`: the bytes, where
    they lie in no file; `path` then only names them.
    """
    with _opened(path, data) as image:
        image.load()  # before the orientation is asked for: a TIFF turns itself as it loads
        turn = UPRIGHT.get(_orientation(image))
        out = _rgb(image)
        return out if turn is None else out.transpose(turn)


def shape(path: Path, data: bytes | None = None) -> tuple[int, int]:
    """(width, height) of the upright image, from its header alone. Raises UserError."""
    with _opened(path, data) as image:
        width, height = image.size
        if image.format == "TIFF":  # Pillow may have turned its size, but never its tags
            tags: Any = image
            width, height = tags.tag_v2[WIDTH], tags.tag_v2[HEIGHT]
        return (height, width) if _orientation(image) in TURNED else (width, height)


@cache
def heif() -> bool:
    """Whether HEIC images can be read: pillow-heif is installed (and registered by this)."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


@contextmanager
def _opened(path: Path, data: bytes | None = None) -> Iterator[Image.Image]:
    """The image, its header read; what its bytes do wrong inside the block is a UserError."""
    if Path(path).suffix.lower() in HEIF and not heif():
        raise UserError(f"{path}: a HEIC image; pip install pillow-heif, or leave it out")
    try:
        source = path if data is None else io.BytesIO(data)
        with Image.open(source, formats=_formats()) as image:
            yield image
    except FileNotFoundError:
        raise UserError(f"{path}: no such image") from None
    except Image.DecompressionBombError:
        raise TooLarge(
            f"{path}: more than {most_pixels()} million pixels; scale it down or leave it out"
        ) from None
    except BROKEN as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        line = line.replace(f" {str(path)!r}", "")  # the message has named the file already
        line = re.sub(r" <_io\.BytesIO[^>]*>", "", line)
        raise UserError(f"{path}: cannot be read as an image ({line}); leave it out") from None


def _formats() -> list[str]:
    """The readers of FORMATS that this Pillow has, and HEIF once it is registered."""
    Image.init()
    return [name for name in (*FORMATS, "HEIF") if name in Image.OPEN]


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 (upright) where there is none or the EXIF data are broken."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except BROKEN:
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    """A new 8-bit RGB image of a decoded one of any mode."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow would cut at 255. 257 * v is how 8 bits become 16, and 0..65535 is what "I" holds
        wide = np.clip(np.asarray(image), 0, 65535).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        page = Image.new("RGB", image.size, "white")
        page.paste(layer, mask=layer.getchannel("A"))
        return page
    return image.convert("RGB")
