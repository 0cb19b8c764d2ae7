"""Decoded images to arrays of pixels: crop, antialiased resize, flip; batches of one shape."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

Box = tuple[int, int, int, int]


def whole_pixels(box: tuple[float, ...], width: int, height: int) -> Box:
    """Round a box in pixels, in float64, to whole pixels inside the image, never empty."""
    x0, y0, x1, y1 = (float(v) for v in box)
    left, top = min(max(round(x0), 0), width - 1), min(max(round(y0), 0), height - 1)
    right, bottom = min(max(round(x1), left + 1), width), min(max(round(y1), top + 1), height)
    return left, top, right, bottom


def render(image: Image.Image, view: dict[str, float], px: int) -> np.ndarray:
    """One stored view of `image` as (px, px, 3) uint8: crop, antialiased resize, flip.

    `view` has `x y width height` as fractions of the image and `flip` 0 or 1.
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
    """An image, or the `box` of it, as (h, w, 3) uint8 by the rule of the benchmarks.

    The box is cut first and scaled by the factor that the whole image would get.
    """
    target = plain_shape(image.width, image.height, box, px)
    if box:  # a crop is a copy, and of the whole image one too many
        image = image.crop(whole_pixels(box, *image.size))
    return np.asarray(image.resize(target, Image.Resampling.BILINEAR))


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
