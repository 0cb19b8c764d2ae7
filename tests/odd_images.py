"""Image files that Pillow does not write: TIFF of any tags, PNG of any chunks, ICC profiles."""

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.core.errors import UserError
from stages.images import reading

SHAPE = (24, 32)
GREY = (np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]][1] * 8).astype(np.uint8)  # 0 to 248
COLOUR = np.stack(
    [GREY, (np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]][0] * 10).astype(np.uint8), 255 - GREY], -1
)
P3 = ((0.5151, 0.2919, 0.1572), (0.2412, 0.6922, 0.0666), (-0.0011, 0.0419, 0.7841))
SRGB = ((0.4360, 0.3851, 0.1431), (0.2225, 0.7169, 0.0606), (0.0139, 0.0971, 0.7141))
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
Tags = dict[int, tuple[str, Sequence[int]]]


def tags(bits: int, photometric: int, samples: int = 1, **more: int) -> Tags:
    """Tags of an image of SHAPE; `planar`, `kind` (of samples), `extra`, `most`, `packed`."""
    found: Tags = {
        256: ("H", [SHAPE[1]]), 257: ("H", [SHAPE[0]]), 258: ("H", [bits] * samples),
        259: ("H", [more.get("packed", 1)]), 262: ("H", [photometric]), 277: ("H", [samples]),
        278: ("H", [SHAPE[0]]), 284: ("H", [more.get("planar", 1)]),
        339: ("H", [more.get("kind", 1)] * samples),
    }  # fmt: skip
    if "extra" in more:
        found[338] = ("H", [more["extra"]])
    if "most" in more:
        found[281] = ("H", [more["most"]] * samples)
    return found


def tiff(planes: Sequence[bytes], by: Tags, order: str = "<") -> bytes:
    """A TIFF of one strip a plane."""
    by = {**by, 273: ("I", [0] * len(planes)), 279: ("I", [len(p) for p in planes])}
    size, kind = {"H": 2, "I": 4}, {"H": 3, "I": 4}
    start = 8 + 2 + 12 * len(by) + 4
    room = sum(n for f, v in by.values() if (n := len(v) * size[f]) > 4)
    places = [start + room + sum(map(len, planes[:i])) for i in range(len(planes))]
    by[273] = ("I", places)
    out = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(by))
    blobs = b""
    for number, (form, values) in sorted(by.items()):
        raw = struct.pack(f"{order}{len(values)}{form}", *values)
        out += struct.pack(f"{order}HHI", number, kind[form], len(values))
        if len(raw) > 4:
            out += struct.pack(f"{order}I", start + len(blobs))
            blobs += raw
        else:
            out += raw.ljust(4, b"\0")
    return out + struct.pack(f"{order}I", 0) + blobs + b"".join(planes)


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content)) + name + content
        + struct.pack(">I", zlib.crc32(name + content))
    )  # fmt: skip


def png(
    rows: np.ndarray, bits: int, colour: int, before: Sequence[tuple[bytes, bytes]] = (),
    after: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:  # fmt: skip
    """A PNG of `rows`: (h, w) or (h, w, c) of 8 or 16 bits, or (h, bytes) packed by the caller."""
    raw = rows.astype(">u2") if bits == 16 else rows.astype(np.uint8)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    width = rows.shape[1] if bits >= 8 else rows.shape[1] * 8 // (bits * channels)
    lines = b"".join(b"\0" + row.tobytes() for row in raw)
    head = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    parts = [(b"IHDR", head), *before, (b"IDAT", zlib.compress(lines)), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def profile(
    space: bytes, parts: dict[bytes, bytes], pcs: bytes = b"XYZ ", of: bytes = b"mntr"
) -> bytes:
    """An ICC profile of these tags."""
    parts = {b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249), **parts}
    table, data = b"", b""
    for name, content in parts.items():
        table += name + struct.pack(">II", 132 + 12 * len(parts) + len(data), len(content))
        data += content + b"\0" * (-len(content) % 4)
    body = struct.pack(">I", len(parts)) + table + data
    head = struct.pack(">I4xI", 128 + len(body), 0x04200000) + of + space + pcs + b"\0" * 12
    head += b"acsp" + b"\0" * 28 + fixed(0.9642, 1, 0.8249)
    return head.ljust(128, b"\0") + body


def rgb_profile(primaries: Sequence[Sequence[float]], gamma: float | None) -> bytes:
    """A matrix profile; `gamma` None: the curve of sRGB."""
    curve = b"para\0\0\0\0\0\3\0\0" + fixed(*SRGB_CURVE)
    if gamma is not None:
        curve = b"para\0\0\0\0\0\0\0\0" + fixed(gamma)
    columns = np.array(primaries).T
    parts = {
        n: b"XYZ \0\0\0\0" + fixed(*c)
        for n, c in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)
    }
    return profile(b"RGB ", {**parts, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)})


def grey_profile(gamma: float) -> bytes:
    return profile(b"GRAY", {b"kTRC": b"para\0\0\0\0\0\0\0\0" + fixed(gamma)})


def press_profile() -> bytes:
    """CMYK by a table of two steps an ink: paper is white, black ink is dark grey (L* 20)."""
    lab = []
    for c, m, y, k in np.ndindex(2, 2, 2, 2):
        light = 95 - 30 * c - 35 * m - 5 * y - 75 * k
        lab += [
            round(max(light, 20 if k else 0) * 2.55),
            128 - 40 * c + 70 * m,
            128 - 40 * c + 90 * y,
        ]
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += ramp * 4 + bytes(min(v, 255) for v in lab) + ramp * 3
    return profile(b"CMYK", {b"A2B0": table}, pcs=b"Lab ", of=b"prtr")


def shown(data: bytes) -> np.ndarray:
    """(h, w, 3) of a file's bytes."""
    return np.asarray(reading.read(Path("a"), data)).astype(int)


def error(data: bytes, wanted: np.ndarray) -> int:
    """Largest difference from the (h, w) or (h, w, 3) pixels of a viewer."""
    wanted = np.repeat(wanted[..., None], 3, -1) if wanted.ndim == 2 else wanted
    return int(np.abs(shown(data) - wanted).max())


def refusal(data: bytes) -> str:
    with pytest.raises(UserError) as found:
        reading.read(Path("a.tif"), data)
    line = str(found.value)
    assert "a.tif" in line and "\n" not in line
    return line


def with_profile(pixels: Image.Image, icc: bytes, kind: str) -> bytes:
    out = io.BytesIO()
    pixels.save(out, kind, icc_profile=icc, **({"lossless": True} if kind == "WEBP" else {}))
    return out.getvalue()
