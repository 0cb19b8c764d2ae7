"""Images or videos of one's own as a set to describe: a folder, a list, a file.

What cannot be read of them is left out, counted and named; of a set that `prepare` made it is an
error.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core import console
from ..core.errors import UserError
from . import listing, reading, rendering
from .sets import EvaluationSet

SHOWN = 20  # lines on what was left out; the others are counted
ROWS = 4096  # that are looked at together


def own_videos(images: Path) -> tuple[Path, list[str]]:
    """(root, paths) of the videos that IMAGES means: one, a folder of them, a list; or no paths."""
    from . import video_frames

    root, paths = video_frames.listed(images)
    if paths and images.is_dir() and listing.walked(images, reading.SUFFIXES)[0]:
        raise UserError(f"{images}: holds images and videos; describe them one after the other")
    return root, paths


def decoded(root: Path, paths: list[str], folder: Path) -> EvaluationSet:
    """Videos with their frames in `folder`; those that are broken are told and left out."""
    from . import video_frames

    counts = video_frames.extract_all(root, paths, folder)
    tell_left_out([c for c in counts if isinstance(c, str)], len(paths), "videos")
    good = [row for row, count in enumerate(counts) if isinstance(count, int)]
    if not good:
        raise UserError(f"{root}: none of {len(paths)} videos can be decoded")
    start = np.concatenate([[0], np.cumsum([counts[row] for row in good])]).astype(np.int64)
    names = [paths[row] for row in good]
    found = _own(folder, np.array(names), sizes(root, names), start)
    return replace(found, path=np.array([f"{row:06d}" for row in good]), own=False)


def own_images(images: Path) -> EvaluationSet:
    """Images of a folder, of a list file (a path a line), or one image."""
    root, found = listing.listed(images)
    names = np.array(found)
    return _own(root, names, sizes(root, found))


def batches(
    found: EvaluationSet, images: Iterable[int], most: int, px: int | None
) -> list[list[int]]:
    """`images` of a set in batches of one shape; those of one's own that are broken in none."""
    shapes: dict[int, tuple[int, int]] = {}
    for image in images:
        file = found.file(image)
        try:
            size = reading.check(file) if found.own else reading.shape(file)
        except UserError:
            if not found.own:
                raise
            continue
        shapes[image] = rendering.plain_shape(*size, found.rectangle(image), px)
    rows = list(shapes)
    return [[rows[i] for i in b] for b in rendering.batches_by_shape([*shapes.values()], most)]


def unreadable(found: EvaluationSet, images: Sequence[int]) -> list[int]:
    """Those of `images` that cannot be decoded; none of a set that prepare made."""
    return [i for i in images if found.own and why_not(found.file(i)) is not None]


def described(found: EvaluationSet, rows: Any) -> np.ndarray:
    """(n,) bool: which rows of a set are no NaN. Says why the images of the others are left out.

    Raises UserError where none is left.
    """
    count = len(rows)
    if not found.own:
        return np.ones(count, bool)
    starts = range(0, count, ROWS)
    there = [~np.isnan(np.asarray(rows[s : s + ROWS])).any(axis=1) for s in starts]
    good = np.concatenate([*there, np.zeros(0, bool)])
    lost = np.flatnonzero(~good)
    lines = [why_not(found.file(i)) or f"{found.file(i)}: not described" for i in lost[:SHOWN]]
    if not good.any():
        raise UserError(f"{found.root}: none of {count} images can be read, the first: {lines[0]}")
    tell_left_out([*lines, *[""] * (len(lost) - len(lines))], count, "images")
    return good


def only(found: EvaluationSet, chosen: np.ndarray) -> EvaluationSet:
    """The images of a set of one's own for which `chosen` (n,) holds."""
    if not found.own:
        return found
    return replace(
        found, image_id=found.image_id[chosen], path=found.path[chosen], role=found.role[chosen],
        box=found.box[chosen],
    )  # fmt: skip


def why_not(file: Path) -> str | None:
    """The line on an image that cannot be read; None where it can."""
    try:
        reading.read(file)
    except UserError as error:
        return str(error)
    return None


def tell_left_out(lines: Sequence[str], count: int, noun: str) -> None:
    """Say how many of `count` were left out, and why the first ones."""
    for line in lines[:SHOWN]:
        console.say(f"left out: {line}")
    if len(lines) > SHOWN:
        console.say(f"left out: {len(lines) - SHOWN} more")
    if lines:
        console.say(f"{len(lines)} of {count} {noun} left out")


def _own(
    root: Path, names: np.ndarray, lengths: list[Any], start: np.ndarray | None = None
) -> EvaluationSet:
    digest = hashlib.blake2b(repr(lengths).encode(), digest_size=16).hexdigest()
    box = np.full((len(names), 4), np.nan, dtype=np.float32)
    role = np.array(["database"] * len(names))
    return EvaluationSet(root, names, names, role, box, digest, start=start, own=True)


def sizes(root: Path, paths: list[str]) -> list[tuple[str, int]]:
    """Each path with its length in bytes, -1 where there is no file."""
    return [(f, (root / f).stat().st_size if (root / f).is_file() else -1) for f in paths]
