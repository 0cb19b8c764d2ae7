"""Images to pixels, the same for teacher, student and search; Pillow and numpy only."""

import io
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from ..core.errors import UserError
from . import colour, png, samples

HEIF = (".heic", ".heif", ".hif")
SUFFIXES = {  # of what is taken for an image in a folder
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".gif",
    ".bmp", ".dib", ".tif", ".tiff", ".jp2", ".j2k", ".j2c", ".jpx", ".jpf", ".ppm", ".pgm", ".pbm",
    ".pnm", ".pfm", ".tga", *HEIF,
}  # fmt: skip
# Pillow's readers of those, and no others: it would hand an EPS to Ghostscript, whatever the name.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM",
           "TGA")  # fmt: skip
ORIENTATION = 0x0112  # the EXIF tag
WIDTH, HEIGHT = 0x0100, 0x0101  # TIFF tags
TURNED = (5, 6, 7, 8)  # its values that exchange width and height
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
# How a whole file ends, a little padding aside. Further up the same bytes may end the thumbnail in
# a JPEG's header.
END = {".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9", ".png": b"IEND\xae\x42\x60\x82"}
TAIL_BYTES, PADDING = 64, b"\0\r\n"
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
    """The image upright (EXIF orientation applied) in 8-bit sRGB, decoded. Raises UserError.

    What is transparent shows white, as on a page: the colour stored under it is arbitrary, often
    black. Of 16 bits 65535 is white, of floating point 1, 255 or 65535; values that viewers do not
    agree on are refused. Of several frames the first counts. `data`: the bytes, where they lie in
    no file; `path` then only names them.
    """
    with _opened(path, data) as image:
        header = samples.Header.of(image)
        image.load()  # before the orientation is asked for: a TIFF turns itself as it loads
        turn = UPRIGHT.get(_orientation(image))
        base, alpha = samples.parts(image, header, lambda: _png_chunks(path, data))
        out = _on_white(colour.to_srgb(base, image.info), alpha, header)
        return out if turn is None else out.transpose(turn)


def shape(path: Path, data: bytes | None = None) -> tuple[int, int]:
    """(width, height) of the upright image, from its header alone. Raises UserError."""
    with _opened(path, data) as image:
        width, height = image.size
        if image.format == "TIFF":  # Pillow may have turned its size, but never its tags
            tags: Any = image
            width, height = tags.tag_v2[WIDTH], tags.tag_v2[HEIGHT]
        return (height, width) if _orientation(image) in TURNED else (width, height)


def check(path: Path) -> tuple[int, int]:
    """`shape` of an image of which is made sure that it is whole. Raises UserError.

    Decoded only where its depth and the end of the file do not show that already.
    """
    size = shape(path)
    if mark := END.get(path.suffix.lower()):
        with _file(path, None) as file:
            eight_bits = png.depth(file) <= 8  # what has more may be refused for its values
            file.seek(max(os.fstat(file.fileno()).st_size - TAIL_BYTES, 0))
            if eight_bits and file.read().rstrip(PADDING).endswith(mark):
                return size
    return read(path).size


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
        with _image(path, data) as image:
            yield image
    except FileNotFoundError:
        raise UserError(f"{path}: no such image") from None
    except samples.Unsuitable as error:
        line = f"{path}: its values cannot be shown ({error.reason}); or leave it out"
        raise samples.Unsuitable(error.reason, line) from None
    except Image.DecompressionBombError:
        raise TooLarge(
            f"{path}: more than {most_pixels()} million pixels; scale it down or leave it out"
        ) from None
    except BROKEN as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        line = line.replace(f" {str(path)!r}", "")  # the message has named the file already
        line = re.sub(r" <_io\.[A-Za-z]+[^>]*>", "", line)
        raise UserError(f"{path}: cannot be read as an image ({line}); leave it out") from None


@contextmanager
def _image(path: Path, data: bytes | None) -> Iterator[Image.Image]:
    """The image as Pillow opens it; of a PNG with long metadata what is left without them."""
    with _file(path, data) as file:
        profile, start = None, file.read(len(png.SIGNATURE))
        if start == png.SIGNATURE and png.has_long_metadata(file):
            content, profile = png.without_texts(file)
            file = io.BytesIO(content)
        file.seek(0)
        with Image.open(file, formats=_formats()) as image:
            if profile is not None:
                image.info["icc_profile"] = profile
            yield image


@contextmanager
def _file(path: Path, data: bytes | None) -> Iterator[BinaryIO]:
    """The bytes of an image; a pipe or a device, which may never end, is none."""
    if data is not None:
        yield io.BytesIO(data)
        return
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise UserError(f"{path}: not a file, but a folder, pipe or device; leave it out")
    with open(path, "rb") as file:
        yield file


def _png_chunks(path: Path, data: bytes | None) -> dict[bytes, bytes]:
    with _file(path, data) as file:
        return png.small_chunks(file)


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


def _on_white(image: Image.Image, alpha: Image.Image | None, header: samples.Header) -> Image.Image:
    """A new RGB image: what is transparent, or outside the first frame of a GIF, is white."""
    whole = header.format != "GIF" or header.frame == (0, 0, *image.size)
    if alpha is None and whole:
        return image
    page = Image.new("RGB", image.size, "white")
    if whole:
        page.paste(image, mask=alpha)
    else:
        mask = None if alpha is None else alpha.crop(header.frame)
        page.paste(image.crop(header.frame), header.frame, mask)
    return page
