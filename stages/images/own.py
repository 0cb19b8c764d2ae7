"""Images or videos of one's own as a set to describe: a folder, a list, a file."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import console
from ..core.errors import UserError
from .listing import listed
from .reading import SUFFIXES
from .sets import EvaluationSet

if TYPE_CHECKING:
    pass


def own_videos(images: Path) -> tuple[Path, list[str]]:
    """(root, paths) of the videos that IMAGES means: one, a folder of them, a list; or no paths."""
    from . import video_frames

    root, paths = video_frames.listed(images)
    shown = images.rglob("[!.]*") if paths and images.is_dir() else ()
    if any(f.suffix.lower() in SUFFIXES for f in shown):
        raise UserError(f"{images}: holds images and videos; describe them one after the other")
    return root, paths


def decoded(root: Path, paths: list[str], folder: Path) -> EvaluationSet:
    """Videos with their frames in `folder`; those that are broken are told and left out."""
    from . import video_frames

    counts = video_frames.extract_all(root, paths, folder)
    for reason in (c for c in counts if isinstance(c, str)):
        console.say(f"left out: {reason}")
    good = [row for row, count in enumerate(counts) if isinstance(count, int)]
    if not good:
        raise UserError(f"{root}: none of {len(paths)} videos can be decoded")
    start = np.concatenate([[0], np.cumsum([counts[row] for row in good])]).astype(np.int64)
    names = [paths[row] for row in good]
    found = _own(folder, np.array(names), sizes(root, names), start)
    return replace(found, path=np.array([f"{row:06d}" for row in good]))


def own_images(images: Path) -> EvaluationSet:
    """Images of a folder, of a list file (a path a line), or one image."""
    root, found = listed(images)
    names = np.array(found)
    return _own(root, names, sizes(root, found))


def _own(
    root: Path, names: np.ndarray, lengths: list[Any], start: np.ndarray | None = None
) -> EvaluationSet:
    digest = hashlib.blake2b(repr(lengths).encode(), digest_size=16).hexdigest()
    box = np.full((len(names), 4), np.nan, dtype=np.float32)
    role = np.array(["database"] * len(names))
    return EvaluationSet(root, names, names, role, box, digest, start=start)


def sizes(root: Path, paths: list[str]) -> list[tuple[str, int]]:
    """Each path with its length in bytes, -1 where there is no file."""
    return [(f, (root / f).stat().st_size if (root / f).is_file() else -1) for f in paths]
