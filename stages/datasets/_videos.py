"""Frames of many videos: decoded on all cores, broken ones left out and listed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core import console, files, parallel, seen_files
from ..core.errors import UserError
from ..images import video_frames

SETTINGS = "decoded.json"
DECODED_FROM = "videos.json"  # id -> digest of the video's content


@dataclass(frozen=True)
class Decoding:
    """How videos become frames, and where these lie: `frames/<id>/0000.jpg` and so on."""

    frames: Path
    fps: float
    most: int
    px: int | None

    def check(self, where: str) -> None:
        """Refuse a folder whose frames were decoded otherwise; note how these are."""
        mine = {"fps": self.fps, "most": self.most, "px": self.px}
        file = self.frames / SETTINGS
        if file.is_file() and files.read_json(file) != mine:
            raise UserError(
                f"{where}: {self.frames} holds frames that were decoded by other settings "
                f"({SETTINGS} names them); give another folder, or remove this one"
            )
        if not file.is_file():
            files.write_text(file, files.to_json(mine))


@dataclass(frozen=True)
class Decoded:
    """The videos that have frames: their number by id, in order; the others by reason."""

    count: dict[str, int]
    broken: dict[str, str]

    def frames(self, ids: Sequence[str]) -> np.ndarray:
        """(n,) int64 numbers of frames."""
        return np.array([self.count[i] for i in ids], dtype=np.int64)

    def notes(self, listed: Path | None = None) -> list[str]:
        """A line with the number and the first of the broken videos."""
        if not self.broken:
            return []
        first = "; ".join(list(self.broken.values())[:3])
        where = f"; all of them: {listed}" if listed else ""
        return [f"{len(self.broken)} broken videos left out: {first}{where}"]


def forget_changed(root: Path, videos: dict[str, Path], frames: Path) -> None:
    """Remove the frames of each video id -> file that is not what they were decoded from.

    What each was is noted beside the frames; frames without a note are taken for those of now.
    """
    note = frames / DECODED_FROM
    before = files.read_json(note) if note.is_file() else {}
    paths = [os.path.relpath(path, root) for path in videos.values()]
    contents = seen_files.Contents(root)
    now = dict(zip(videos, contents.digests(paths, "reading videos"), strict=True))
    contents.save()
    changed = [i for i, digest in now.items() if before.get(i, digest) != digest]
    for name in changed:
        shutil.rmtree(frames / name, ignore_errors=True)
    if changed:
        console.say(f"{frames}: {len(changed)} videos changed and are decoded again")
    if now.items() - before.items():
        files.write_text(note, files.to_json({**before, **now}))


def decode(paths: dict[str, Path], by: Decoding, part: str) -> Decoded:
    """Frames of each video id -> file, frames that exist already taken as they are.

    Broken videos are left out, and listed in a file beside the frames, one for each `part`.
    """
    video_frames.forget_unfinished(by.frames)
    tasks = [(path, by.frames / name, by) for name, path in paths.items()]
    results = parallel.each(_decode, tasks, "decoding videos", least=4, crashed=_crashed)
    decoded = _sorted(dict(zip(paths, results, strict=True)))
    by.frames.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{reason}\n" for reason in decoded.broken.values())
    files.write_text(broken_list(by.frames, part), lines)
    return decoded


def counted(folder: Path, ids: Sequence[str], most: int) -> Decoded:
    """Frames that lie in `folder/<id>/` already. Raises UserError for an id without a folder."""
    return _sorted({i: _count(folder / i, most) for i in ids})


def broken_list(frames: Path, part: str) -> Path:
    """The file that names what was left out of `part`."""
    return frames / f"broken-{part}.txt"


def _sorted(results: dict[str, int | str]) -> Decoded:
    good = {name: n for name, n in results.items() if isinstance(n, int)}
    broken = {name: reason for name, reason in results.items() if isinstance(reason, str)}
    return Decoded(good, broken)


def _decode(task: tuple[Path, Path, Decoding]) -> int | str:
    """How many frames there are now, or what is wrong with the video; runs in a worker."""
    path, folder, by = task
    try:
        return video_frames.extract(path, folder, fps=by.fps, most=by.most, px=by.px)
    except UserError as error:
        return str(error)


def _crashed(task: tuple[Path, Path, Decoding]) -> int | str:
    return f"{task[0]}: its decoder crashes on it"


def _count(folder: Path, most: int) -> int | str:
    try:
        return video_frames.count(folder, most)
    except UserError as error:
        return str(error)
    except NotADirectoryError:
        return f"{folder}: not a folder of frames"
