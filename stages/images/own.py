"""Images or videos of one's own as a set to describe: a folder, a list, a file."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core import console
from ..core.errors import UserError
from .listing import listed, listed_videos, walked
from .reading import SUFFIXES
from .sets import EvaluationSet


def own_videos(source: Path) -> tuple[Path, list[str]]:
    """(root, paths) of the videos that `source` means, no paths where it means none.

    Raises UserError for a folder of videos with images among them.
    """
    root, videos = listed_videos(source)
    if videos and source.is_dir() and walked(source, SUFFIXES)[0]:
        raise UserError(f"{source}: holds images and videos; describe them one after the other")
    return root, videos


def decoded(root: Path, videos: list[str], folder: Path) -> EvaluationSet:
    """Videos with their frames in `folder`; those that are broken are named and left out."""
    from . import video_frames

    frames = video_frames.extract_all(root, videos, folder)
    for reason in (f for f in frames if isinstance(f, str)):
        console.say(f"left out: {reason}")
    good = [row for row, count in enumerate(frames) if isinstance(count, int)]
    if not good:
        raise UserError(f"{root}: none of {len(videos)} videos can be decoded")
    start = np.concatenate([[0], np.cumsum([frames[row] for row in good])]).astype(np.int64)
    names = [videos[row] for row in good]
    own = _as_set(folder, names, sizes(root, names), start)
    return replace(own, path=np.array([f"{row:06d}" for row in good]))


def own_images(source: Path) -> EvaluationSet:
    """The images of a folder, of a list file (a path a line), or one image."""
    root, names = listed(source)
    return _as_set(root, names, sizes(root, names))


def sizes(root: Path, paths: list[str]) -> list[tuple[str, int]]:
    """Each path with its length in bytes, -1 where there is no file."""
    return [(f, (root / f).stat().st_size if (root / f).is_file() else -1) for f in paths]


def _as_set(
    root: Path, names: list[str], lengths: list[Any], start: np.ndarray | None = None
) -> EvaluationSet:
    image_id = np.array(names)
    digest = hashlib.blake2b(repr(lengths).encode(), digest_size=16).hexdigest()
    box = np.full((len(names), 4), np.nan, dtype=np.float32)
    role = np.array(["database"] * len(names))
    return EvaluationSet(root, image_id, image_id, role, box, digest, start=start)
