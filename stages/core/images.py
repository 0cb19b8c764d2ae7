"""Pictures to pixels, the same for teacher, student and search; Pillow and numpy only."""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from . import console
from .errors import UserError
from .walk import walked

Box = tuple[int, int, int, int]
HEIF = (".heic", ".heif")
SUFFIXES = {  # of what is taken for a picture in a folder
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
# Of doubtful metadata, and of large pictures that are still below the limit: nothing to do here.
# For the whole process: catch_warnings is not safe in the threads that read ahead.
warnings.filterwarnings("ignore", module=r"PIL\.")


class TooLarge(UserError):
    """A picture of more pixels than are decoded."""


def most_pixels() -> int:
    """Millions of pixels that a picture may have."""
    return 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6


def read(path: Path, data: bytes | None = None) -> Image.Image:
    """The picture upright (EXIF orientation applied) in 8-bit RGB, decoded. Raises UserError.

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
    """(width, height) of the upright picture, from its header alone. Raises UserError."""
    with _opened(path, data) as image:
        width, height = image.size
        if image.format == "TIFF":  # Pillow may have turned its size, but never its tags
            tags: Any = image
            width, height = tags.tag_v2[WIDTH], tags.tag_v2[HEIGHT]
        return (height, width) if _orientation(image) in TURNED else (width, height)


@cache
def heif() -> bool:
    """Whether HEIC pictures can be read: pillow-heif is installed (and registered by this)."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


@contextmanager
def _opened(path: Path, data: bytes | None = None) -> Iterator[Image.Image]:
    """The picture, its header read; what its bytes do wrong inside the block is a UserError."""
    if Path(path).suffix.lower() in HEIF and not heif():
        raise UserError(f"{path}: a HEIC picture; pip install pillow-heif, or leave it out")
    try:
        source = path if data is None else io.BytesIO(data)
        with Image.open(source, formats=_formats()) as image:
            yield image
    except FileNotFoundError:
        raise UserError(f"{path}: no such picture") from None
    except Image.DecompressionBombError:
        raise TooLarge(
            f"{path}: more than {most_pixels()} million pixels; scale it down or leave it out"
        ) from None
    except BROKEN as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        line = line.replace(f" {str(path)!r}", "")  # the message has named the file already
        line = re.sub(r" <_io\.BytesIO[^>]*>", "", line)
        raise UserError(f"{path}: cannot be read as a picture ({line}); leave it out") from None


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
    """A new 8-bit RGB picture of a decoded one of any mode."""
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


def whole_pixels(box: tuple[float, ...], width: int, height: int) -> Box:
    """Round a box in pixels, in float64, to whole pixels inside the picture, never empty."""
    x0, y0, x1, y1 = (float(v) for v in box)
    left, top = min(max(round(x0), 0), width - 1), min(max(round(y0), 0), height - 1)
    right, bottom = min(max(round(x1), left + 1), width), min(max(round(y1), top + 1), height)
    return left, top, right, bottom


def render(image: Image.Image, view: dict[str, float], px: int) -> np.ndarray:
    """One stored view of `image` as (px, px, 3) uint8: crop, antialiased resize, flip.

    `view` has `x y width height` as fractions of the picture and `flip` 0 or 1.
    """
    w, h = image.size
    x, y = view["x"] * w, view["y"] * h
    box = whole_pixels((x, y, x + view["width"] * w, y + view["height"] * h), w, h)
    # Cut first: resize(box=...) would let the pixels around the box into its border.
    out = image.crop(box).resize((px, px), Image.Resampling.BILINEAR)
    if view["flip"] >= 0.5:
        out = out.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(out)


def fitted(width: int, height: int, px: int | None) -> tuple[int, int]:
    """(width, height) with the long side at most `px`; never enlarged, never below one pixel."""
    if px is None or max(width, height) <= px:
        return width, height
    scale = px / max(width, height)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def plain(image: Image.Image, box: tuple[float, ...] | None, px: int | None) -> np.ndarray:
    """A picture, or the `box` of it, as (h, w, 3) uint8 by the rule of the benchmarks.

    The box is cut first and scaled by the factor that the whole picture would get.
    """
    target = plain_shape(image.width, image.height, box, px)
    region = whole_pixels(box, *image.size) if box else (0, 0, *image.size)
    return np.asarray(image.crop(region).resize(target, Image.Resampling.BILINEAR))


def plain_shape(
    width: int, height: int, box: tuple[float, ...] | None, px: int | None
) -> tuple[int, int]:
    """(width, height) that `plain` will give, known before anything is decoded."""
    if box is None:
        return fitted(width, height, px)
    left, top, right, bottom = whole_pixels(box, width, height)
    scale = min(1.0, px / max(width, height)) if px else 1.0
    return max(round((right - left) * scale), 1), max(round((bottom - top) * scale), 1)


def batches_by_shape(shapes: Sequence[tuple[int, int]], most: int) -> list[list[int]]:
    """Rows of `shapes` in batches of one shape, at most `most` each; the order is fixed."""
    by_shape: dict[tuple[int, int], list[int]] = {}
    for row, shape in enumerate(shapes):
        by_shape.setdefault(shape, []).append(row)
    groups = [by_shape[shape] for shape in sorted(by_shape)]
    return [g[i : i + most] for g in groups for i in range(0, len(g), most)]


def listed(source: Path) -> tuple[Path, list[str]]:
    """(root, relative paths) of a folder's pictures as `walked` finds them; of a list file's (a
    path a line, relative to it); of one picture. Says what it leaves out; UserError without any.
    """
    if source.is_dir():
        root, (found, left_out) = source, walked(source, SUFFIXES)
        for line in left_out:
            console.say(f"{source}: {line}")
    elif source.suffix.lower() in SUFFIXES and source.is_file():
        root, found = source.parent, [source.name]
    elif source.is_file():
        root = source.parent
        try:
            lines = source.read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            raise UserError(f"{source}: neither a picture nor a list of paths in UTF-8") from None
        found = [line.strip() for line in lines if line.strip()]
    else:
        raise UserError(f"{source}: neither a folder of pictures nor a list of their paths")
    if not found:
        raise UserError(f"{source}: no pictures in it ({', '.join(sorted(SUFFIXES))})")
    return root, found
