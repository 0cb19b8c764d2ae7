"""Images and videos that a path means: a folder with all below it, a list file, one file."""

import os
from collections.abc import Container, Sequence
from pathlib import Path, PurePosixPath

from ..core import console
from ..core.errors import UserError
from .reading import SUFFIXES

LEFT_BY_MACHINES = ("__MACOSX", "Thumbs.db", "desktop.ini")  # and whatever begins with a dot


def walked(root: Path, suffixes: Container[str]) -> tuple[list[str], list[str]]:
    """(relative posix paths of the images below `root`, sorted; a line on each kind left out).

    An image, or a video, is what has one of `suffixes`. Links to folders are followed, each folder
    once; hidden files and folders and what machines leave behind are passed over, a folder as one.
    """
    files, hidden = _files(root)
    suffix = {f: PurePosixPath(f).suffix.lower() for f in files}
    images = [f for f in files if suffix[f] in suffixes]
    foreign = [f for f in images if not _is_text(f)]
    kinds = sorted({kind or "no suffix" for kind in suffix.values() if kind not in suffixes})
    lines = []
    if others := len(files) - len(images):
        lines.append(f"{others} files left out, not images by their suffix: {named(kinds)}")
    if hidden:
        lines.append(
            f"{len(hidden)} left out, hidden or made by a machine: {named(sorted(hidden))}"
        )
    if foreign:
        shown = [f.encode("utf-8", "replace").decode() for f in foreign]
        lines.append(f"{len(foreign)} images left out, their names are not UTF-8: {named(shown)}")
    return sorted(f for f in images if f not in set(foreign)), lines


def listed(source: Path) -> tuple[Path, list[str]]:
    """(root, relative paths) of a folder's images as `walked` finds them; of a list file's (a
    path a line, relative to it); of one image. Says what it leaves out; UserError without any.
    """
    if source.is_dir():
        root, (paths, left_out) = source, walked(source, SUFFIXES)
        for line in left_out:
            console.say(f"{source}: {line}")
    elif source.suffix.lower() in SUFFIXES and source.is_file():
        root, paths = source.parent, [source.name]
    elif source.is_file():
        root, lines = source.parent, _lines(source)
        if lines is None:
            raise UserError(f"{source}: neither an image nor a list of paths in UTF-8")
        paths = lines
    else:
        raise UserError(f"{source}: no such file or folder")
    if not paths:
        raise UserError(f"{source}: no images in it ({', '.join(sorted(SUFFIXES))})")
    return root, paths


def listed_videos(source: Path) -> tuple[Path, list[str]]:
    """(root, relative paths) of the videos of a folder, of a list file or of one video.

    No paths where there are none. Raises UserError for a list that names other files too.
    """
    if source.is_dir():
        from .video_frames import SUFFIXES as VIDEO_SUFFIXES

        return source, walked(source, VIDEO_SUFFIXES)[0]
    if is_video(source):
        return source.parent, [source.name]
    lines = (_lines(source) or []) if source.is_file() else []
    videos = [line for line in lines if is_video(Path(line))]
    if videos and (others := [line for line in lines if not is_video(Path(line))]):
        raise UserError(
            f"{source}: names videos and {others[0]}, which is none; describe videos and images "
            "one after the other"
        )
    return source.parent, videos


def is_video(path: Path) -> bool:
    """Whether a path is a video's by its suffix."""
    from .video_frames import SUFFIXES as VIDEO_SUFFIXES

    return path.suffix.lower() in VIDEO_SUFFIXES


def _lines(file: Path) -> list[str] | None:
    """The lines of a list of paths without the empty ones; None where it is no text in UTF-8."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        return None
    return [line.strip() for line in lines if line.strip()]


def named(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _files(root: Path) -> tuple[list[str], list[str]]:
    """(files below `root`, hidden files and folders passed over), relative."""
    files: list[str] = []
    hidden: list[str] = []
    seen: set[str] = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        here = os.path.realpath(folder)
        if here in seen:  # a link back up, or a second way to the same folder
            inner.clear()
            continue
        seen.add(here)
        relative = Path(folder).relative_to(root)
        hidden += [(relative / n).as_posix() for n in (*inner, *names) if not _is_meant(n)]
        inner[:] = sorted(name for name in inner if _is_meant(name))
        files += [(relative / name).as_posix() for name in names if _is_meant(name)]
    return files, [h.encode("utf-8", "replace").decode() for h in hidden]


def _is_meant(name: str) -> bool:
    return not name.startswith(".") and name not in LEFT_BY_MACHINES


def _is_text(path: str) -> bool:
    """Whether a file name is UTF-8; the bytes of others cannot be stored as text."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
