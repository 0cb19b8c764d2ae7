"""Colours to sRGB: by the embedded ICC profile, or by the gamma and primaries that a PNG states."""

import io
import struct
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # Pillow's mode -> the profile's colour space
SAME = 2  # levels apart at most: such a profile is sRGB's own, and the pixels stay untouched
KEPT = 16  # transforms, each of one profile
SRGB = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # white, red, green, blue: x, y
NEAR = 0.05  # of a stated gamma from 1 / 2.2, which stands for sRGB's curve
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def to_srgb(base: Image.Image, info: dict[Any, Any]) -> Image.Image:
    """An image in L, RGB, CMYK or LAB as sRGB, in mode RGB, its colours converted perceptually.

    Without a profile, and where it cannot be read or is of another kind of colours, the numbers
    are taken as sRGB's.
    """
    if base.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return _applied(_built(ImageCms.ImageCmsProfile(lab), "LAB"), base)
    profile = info.get("icc_profile")
    if not profile and base.mode in ("L", "RGB") and "srgb" not in info and info.get("gamma"):
        profile = _stated(info["gamma"], tuple(info.get("chromaticity") or SRGB))
        base = base.convert("RGB")  # greys too, as browsers show them
    transform = _transform(bytes(profile), base.mode) if profile else None
    return base.convert("RGB") if transform is None else _applied(transform, base)


def _applied(transform: Any, base: Image.Image) -> Image.Image:
    out = transform.apply(base)
    assert out is not None
    return out


@lru_cache(KEPT)
def _transform(profile: bytes, mode: str) -> Any | None:
    """From the profile's colours to sRGB; None where there is nothing to convert, or no way to."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != SPACES[mode]:
            return None
        built = _built(source, mode)
        return None if mode != "CMYK" and _changes_nothing(built, mode) else built
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError):
        return None


def _built(source: Any, mode: str) -> Any:
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")


def _changes_nothing(transform: Any, mode: str) -> bool:
    """Whether colours spread over all of the space stay as they are, to SAME levels."""
    steps = np.linspace(0, 255, 18).round().astype(np.uint8)
    if mode == "L":
        sample = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    else:
        grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
        sample = Image.fromarray(grid)
    wanted = np.asarray(sample.convert("RGB")).astype(int)
    return bool(np.abs(np.asarray(transform.apply(sample)).astype(int) - wanted).max() <= SAME)


@lru_cache(KEPT)
def _stated(gamma: float, points: tuple[float, ...]) -> bytes | None:
    """A profile of a file's gamma (its exponent, 1 / 2.2 for sRGB) and chromaticities.

    None where they are sRGB's, or no colours at all.
    """
    plain = abs(gamma * 2.2 - 1) < NEAR
    if plain and np.allclose(points, SRGB, atol=0.005) or not 0.1 < gamma < 10:
        return None
    try:
        with np.errstate(all="ignore"):
            primaries = _to_d50(points)
    except (np.linalg.LinAlgError, ValueError):
        return None
    if not np.isfinite(primaries).all():
        return None
    return _profile(primaries, None if plain else 1 / gamma)


def _to_d50(points: tuple[float, ...]) -> np.ndarray:
    """(3, 3) XYZ of red, green and blue as columns, brought to the white that profiles are of."""
    x, y = np.array(points[::2]), np.array(points[1::2])
    xyz = np.stack([x / y, np.ones(len(x)), (1 - x - y) / y], axis=1)
    white, colours = xyz[0], xyz[1:].T
    colours = colours * np.linalg.solve(colours, white)
    cone = np.diag((BRADFORD @ D50) / (BRADFORD @ white))
    return np.linalg.inv(BRADFORD) @ cone @ BRADFORD @ colours


def _profile(primaries: np.ndarray, exponent: float | None) -> bytes:
    """An ICC profile of three primaries and one curve; `exponent` None: that of sRGB."""
    if exponent is None:
        tone = b"para\0\0\0\0\0\3\0\0" + _fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    else:
        tone = b"para\0\0\0\0\0\0\0\0" + _fixed(exponent)
    xyz = b"XYZ \0\0\0\0"
    tags = [(b"wtpt", xyz + _fixed(*D50))]
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries.T, strict=True):
        tags.append((name, xyz + _fixed(*column)))
    tags += [(name, tone) for name in (b"rTRC", b"gTRC", b"bTRC")]
    table, data = b"", b""
    for name, content in tags:
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(content))
        data += content + b"\0" * (-len(content) % 4)
    body = struct.pack(">I", len(tags)) + table + data
    head = struct.pack(">I4xI", 128 + len(body), 0x04200000) + b"mntrRGB XYZ " + b"\0" * 12
    head += b"acsp" + b"\0" * 28 + _fixed(*D50)
    return head.ljust(128, b"\0") + body


def _fixed(*values: float) -> bytes:
    """Numbers as ICC profiles write them: 16 bits before and after the point."""
    return b"".join(struct.pack(">i", round(float(v) * 65536)) for v in values)
