"""Images or videos of one's own as a set to describe: a folder, a list, a file.

What cannot be read of them is left out, counted and named; of a set that `prepare` made it is an
error.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core import console, seen_files
from ..core.errors import UserError
from . import listing, reading, rendering
from .sets import EvaluationSet

SHOWN = 20  # lines on what was left out; the others are counted
ROWS = 4096  # that are looked at together


def own_videos(source: Path) -> tuple[Path, list[str]]:
    """(root, paths) of the videos that `source` means, no paths where it means none.

    Raises UserError for a folder of videos with images among them.
    """
    root, videos = listing.listed_videos(source)
    if videos and source.is_dir() and listing.walked(source, reading.SUFFIXES)[0]:
        raise UserError(f"{source}: holds images and videos; describe them one after the other")
    return root, videos


def decoded(root: Path, videos: list[str], folder: Path) -> EvaluationSet:
    """Videos with their frames in `folder`; those that are broken are named and left out."""
    from . import video_frames

    frames = video_frames.extract_all(root, videos, folder)
    tell_left_out([f for f in frames if isinstance(f, str)], len(videos), "videos")
    good = [row for row, count in enumerate(frames) if isinstance(count, int)]
    if not good:
        raise UserError(f"{root}: none of {len(videos)} videos can be decoded")
    start = np.concatenate([[0], np.cumsum([frames[row] for row in good])]).astype(np.int64)
    names = [videos[row] for row in good]
    own = _as_set(folder, names, seen_files.digest_of_all(root, names), start)
    return replace(own, path=np.array([f"{row:06d}" for row in good]), own=False)


def own_images(source: Path) -> EvaluationSet:
    """The images of a folder, of a list file (a path a line), or one image."""
    root, names = listing.listed(source)
    return _as_set(root, names, seen_files.digest_of_all(root, names, "reading images"))


def batches(
    images: EvaluationSet, rows: Iterable[int], most: int, px: int | None
) -> list[list[int]]:
    """`rows` of a set in batches of one shape; those of one's own that are broken in none."""
    shapes: dict[int, tuple[int, int]] = {}
    for row in rows:
        file = images.file(row)
        try:
            size = reading.check(file) if images.own else reading.shape(file)
        except UserError:
            if not images.own:
                raise
            continue
        shapes[row] = rendering.plain_shape(*size, images.rectangle(row), px)
    whole = list(shapes)
    groups = rendering.batches_by_shape([*shapes.values()], most)
    return [[whole[i] for i in group] for group in groups]


def unreadable(images: EvaluationSet, rows: Sequence[int]) -> list[int]:
    """Those of `rows` that cannot be decoded; none of a set that prepare made."""
    return [row for row in rows if images.own and why_not(images.file(row)) is not None]


def described(images: EvaluationSet, rows: Any) -> np.ndarray:
    """(n,) bool: which rows of a set are no NaN. Says why the images of the others are left out.

    Raises UserError where none is left.
    """
    count = len(rows)
    if not images.own:
        return np.ones(count, bool)
    starts = range(0, count, ROWS)
    whole = [~np.isnan(np.asarray(rows[s : s + ROWS])).any(axis=1) for s in starts]
    good = np.concatenate([*whole, np.zeros(0, bool)])
    lost = np.flatnonzero(~good)
    lines = [why_not(images.file(i)) or f"{images.file(i)}: not described" for i in lost[:SHOWN]]
    if not good.any():
        raise UserError(f"{images.root}: none of {count} images can be read, the first: {lines[0]}")
    tell_left_out([*lines, *[""] * (len(lost) - len(lines))], count, "images")
    return good


def only(images: EvaluationSet, chosen: np.ndarray) -> EvaluationSet:
    """The images of a set of one's own for which `chosen` (n,) holds."""
    if not images.own:
        return images
    return replace(
        images, image_id=images.image_id[chosen], path=images.path[chosen],
        role=images.role[chosen], box=images.box[chosen],
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


def _as_set(
    root: Path, names: list[str], digest: str, start: np.ndarray | None = None
) -> EvaluationSet:
    image_id = np.array(names)
    box = np.full((len(names), 4), np.nan, dtype=np.float32)
    role = np.array(["database"] * len(names))
    return EvaluationSet(root, image_id, image_id, role, box, digest, start=start, own=True)
