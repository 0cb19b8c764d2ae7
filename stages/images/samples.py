"""Decoded samples of any mode and depth to 8 bits, as a viewer shows them, or one line why not."""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..core.errors import UserError
from . import png

BITS, PHOTOMETRIC, MOST, COLOUR_MAP = 258, 262, 281, 320  # TIFF tags
PLANES, SAMPLE_FORMAT = 284, 339
SIGNED = 2  # of SAMPLE_FORMAT
# Values that end below a sixteenth of what their type holds are likely of 12 bits in 16, or of a
# scale that the file does not state: a viewer shows black, and every such image looks the same.
USED = 16


class Unsuitable(UserError):
    """An image that is whole, but whose values have no meaning that every viewer agrees on."""

    def __init__(self, reason: str, line: str = "") -> None:
        super().__init__(line or reason)
        self.reason = reason  # without the file's name


@dataclass(frozen=True)
class Header:
    """What is asked of an opened image before it is decoded, which makes it forget."""

    format: str
    mode: str
    raw: str  # how the samples lie in the file, in Pillow's words: "RGB;16B"
    tags: Any  # of a TIFF; an empty map of others
    frame: tuple[int, int, int, int]  # of the first frame of a GIF, within its canvas

    @classmethod
    def of(cls, image: Image.Image) -> "Header":
        """The header of an opened image; TIFF planes of 16 bits are set to be decoded as such."""
        opened: Any = image
        tags: Any = getattr(image, "tag_v2", {})
        tiles: Any = getattr(image, "tile", [])
        args = tiles[0][3] if tiles else ""
        raw = args if isinstance(args, str) else str(args[0]) if args else ""
        if tags and tags.get(PLANES) == 2 and max(tags.get(BITS, (8,))) == 16 and len(raw) == 1:
            order = ";16B" if tags.prefix == b"MM" else ";16L"  # Pillow would read 8 bits of them
            opened.tile = [t._replace(args=(t[3][0] + order, *t[3][1:])) for t in tiles]
            raw += order
        frame = tiles[0][1] if tiles else (0, 0, *image.size)
        return cls(image.format or "", image.mode, raw, tags, frame)


def parts(image: Image.Image, header: Header, ask_png: Any) -> tuple[Image.Image, Any]:
    """(base, alpha) of a decoded image, 8 bits each: base in L, RGB, CMYK or LAB; alpha or None.

    `ask_png()` gives the chunks of a PNG. Raises Unsuitable, without the file's name.
    """
    tags = header.tags
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        values, top = _values(image, header, ask_png)
        grey = Image.fromarray(
            _eight_bits(values, top, bool(tags) and tags.get(PHOTOMETRIC, 0) == 0)
        )
        hidden = image.info.get("transparency")
        alpha = np.where(values == hidden, 0, 255) if isinstance(hidden, int) else None
        return grey, None if alpha is None else Image.fromarray(alpha.astype(np.uint8))
    if ";16" in header.raw and 0 < _largest(image) < 256 // USED:
        raise Unsuitable(_too_dark(f"16 bits, none above {_largest(image) * 257}"))
    if tags.get(SAMPLE_FORMAT, (1,))[0] == SIGNED:
        raise Unsuitable("8-bit integers with a sign; save it as 8 bits without one")
    if tags and image.mode in ("P", "PA") and max(tags[COLOUR_MAP]) < 256:
        image.putpalette(bytes(tags[COLOUR_MAP]), "RGB;L")  # of 8 bits; Pillow takes 16
    return _layers(image, header)


def _layers(image: Image.Image, header: Header) -> tuple[Image.Image, Any]:
    """(base, alpha) of an image of 8 bits or fewer a sample."""
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode == "LA":
        return image.getchannel("L"), image.getchannel("A")
    if header.format == "PNG":
        _scale_hidden(image, header)
    if not image.has_transparency_data:
        kept = image.mode in ("L", "RGB", "CMYK", "LAB")
        return image if kept else image.convert("L" if image.mode == "1" else "RGB"), None
    layer = image.convert("RGBA")
    alpha = layer.getchannel("A")
    if header.format in ("BMP", "TGA") and alpha.getextrema() == (0, 0):
        return layer.convert("RGB"), None  # the fourth byte is filling there, not alpha
    return layer.convert("RGB"), alpha


def _scale_hidden(image: Image.Image, header: Header) -> None:
    """Bring the transparent value of a PNG, stored in its own depth, to that of the pixels."""
    hidden = image.info.get("transparency")
    if header.raw in ("L;2", "L;4") and isinstance(hidden, int):
        image.info["transparency"] = hidden * (85 if header.raw == "L;2" else 17)
    elif ";16" in header.raw and isinstance(hidden, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in hidden)


def _values(image: Image.Image, header: Header, ask_png: Any) -> tuple[np.ndarray, float]:
    """(samples, the value that shows white) of an image of more than 8 bits."""
    values = np.asarray(image)
    if image.mode == "F":
        return values, _float_range(values)
    tags = header.tags
    bits = int(tags.get(BITS, (16,))[0])
    signed = tags.get(SAMPLE_FORMAT, (1,))[0] == SIGNED
    if bits == 32 and not signed:
        values = values.view(np.uint32)
    if values.min(initial=0) < 0:
        raise Unsuitable(f"integers from {values.min()} on; save it as 8 or 16 bits without a sign")
    largest, top = int(values.max(initial=0)), (1 << (bits - signed)) - 1
    stated = tags.get(MOST)
    said = int(stated[0] if isinstance(stated, tuple) else stated or 0)
    if header.format == "PNG":
        said = _unshifted(values, ask_png())
    if largest <= said < top:
        return values, said
    if header.format != "PPM" and bits > 12 and 0 < largest <= top // USED:
        raise Unsuitable(_too_dark(f"{bits} bits, none above {largest}"))
    return values, top


def _float_range(values: np.ndarray) -> float:
    """1, 255 or 65535: the smallest that holds all values. Raises Unsuitable."""
    if not np.isfinite(values).all():
        raise Unsuitable("NaN or infinity in it; mend it, or save it as 8 bits")
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    top = next((t for t in (1, 255, 65535) if high <= t), None)
    if top is None or low < 0:
        raise Unsuitable(
            f"floating point from {low:.4g} to {high:.4g}; 0 to 1, 255 or 65535 is read"
        )
    if 0 < high <= top / USED:
        raise Unsuitable(_too_dark(f"floating point, none above {high:.4g}"))
    return top


def _unshifted(values: np.ndarray, chunks: dict[bytes, bytes]) -> int:
    """The largest value of a 16-bit PNG whose writer kept 9 to 15 bits unscaled; 0: it scaled them.

    sBIT says how many bits count. The format asks for them at the upper end of the 16.
    """
    bits = chunks.get(b"sBIT", b"\x10")[:1] or b"\x10"
    count = struct.unpack("B", bits)[0]
    if not 8 < count < 16 or values.max(initial=0) >= 1 << count:
        return 0
    upper = values >> (16 - count)
    scaled = ((upper << (16 - count)) == values) | (png.replicated(upper, count) == values)
    return 0 if scaled.all() else (1 << count) - 1


def _eight_bits(values: np.ndarray, top: float, inverted: bool) -> np.ndarray:
    """`values` of 0 to `top` as 0 to 255, rounded."""
    if top == 65535 and values.dtype.kind != "f":
        out = (values.astype(np.uint32) + 128) // 257
    else:
        out = np.rint(values.astype(np.float64) * (255 / top))
    out = np.clip(out, 0, 255).astype(np.uint8)
    return 255 - out if inverted else out


def _largest(image: Image.Image) -> int:
    colours = image if image.mode in ("RGB", "CMYK") else image.convert("RGB")
    extremes: Any = colours.getextrema()
    return max(int(high) for _, high in extremes)


def _too_dark(what: str) -> str:
    return f"{what}: nearly black, or of fewer bits than its header says; scale its values"
