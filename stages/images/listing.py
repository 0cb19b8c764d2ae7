"""Images and videos that a path means: a folder with all below it, a list file, one file."""

import os
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..core import console
from ..core.errors import UserError
from . import lists
from .reading import SUFFIXES

LEFT_BY_MACHINES = (  # and whatever begins with a dot
    "__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "$RECYCLE.BIN", "System Volume Information",
)  # fmt: skip


@dataclass
class Walk:
    """What lies below a folder, as relative posix paths; `odd`: neither files nor folders."""

    files: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)  # a folder as one
    odd: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)  # folders that may not be read


def walked(
    root: Path, suffixes: Container[str], noun: str = "images"
) -> tuple[list[str], list[str]]:
    """(relative posix paths of the images below `root`, sorted; a line on each kind left out).

    An image, or a video, is what has one of `suffixes`. Links to folders are followed, each folder
    once; hidden files and folders and what machines leave behind are passed over, a folder as one.
    """
    walk = Walk()
    _walk(root, "", walk, set())
    suffix = {f: os.path.splitext(f)[1].lower() for f in walk.files}
    images = [f for f in walk.files if suffix[f] in suffixes]
    foreign = [f for f in images if not _is_text(f)]
    kinds = sorted({kind or "no suffix" for kind in suffix.values() if kind not in suffixes})
    odd = [f for f in walk.odd if os.path.splitext(f)[1].lower() in suffixes]
    left = [
        (len(walk.files) - len(images), f"files left out, not {noun} by their suffix", kinds),
        (len(walk.hidden), "left out, hidden or made by a machine", walk.hidden),
        (len(foreign), f"{noun} left out, their names are not UTF-8", foreign),
        (len(odd), "left out, not files (pipes, devices, links to nothing)", odd),
        (len(walk.closed), "folders left out, they may not be read", walk.closed),
    ]
    lines = [f"{n} {what}: {named(sorted(map(_shown, names)))}" for n, what, names in left if n]
    left_out = set(foreign)
    return sorted(f for f in images if f not in left_out), lines


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
        root = source.parent
        try:
            lines = lists.read_lines(source)
        except UserError as error:
            raise UserError(f"{error}; expected an image, or a list of paths") from None
        paths = _once(source, lists.resolved(root, [line for _, line in lines]))
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

        videos, left_out = walked(source, VIDEO_SUFFIXES, "videos")
        for line in left_out if videos else ():  # without any it may be a folder of images
            console.say(f"{source}: {line}")
        return source, videos
    if is_video(source):
        return source.parent, [source.name]
    try:
        lines = [line for _, line in lists.read_lines(source)] if source.is_file() else []
    except UserError:  # an image
        lines = []
    videos = [line for line in lines if is_video(Path(lists.unquoted(line)))]
    if videos and (others := sorted(set(lines).difference(videos))):
        raise UserError(
            f"{source}: names videos and {others[0]}, which is none; describe videos and images "
            "one after the other"
        )
    return source.parent, _once(source, lists.resolved(source.parent, videos))


def _once(source: Path, paths: list[str]) -> list[str]:
    """The paths of a list, each once; says how many it names again."""
    once = dict.fromkeys(paths)
    if again := len(paths) - len(once):
        first = next(p for p in once if paths.count(p) > 1)
        console.say(f"{source}: {again} lines name an image again, which counts once: {first}")
    return list(once)


def is_video(path: Path) -> bool:
    """Whether a path is a video's by its suffix."""
    from .video_frames import SUFFIXES as VIDEO_SUFFIXES

    return path.suffix.lower() in VIDEO_SUFFIXES


def named(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _walk(root: Path, relative: str, walk: Walk, seen: set[tuple[int, int]]) -> None:
    """Add what lies below the folder `relative` of `root` to `walk`; `seen`: folders met."""
    here = os.path.join(root, relative)
    try:
        about = os.stat(here)
        if (about.st_dev, about.st_ino) in seen:  # a link back up, or a second way to it
            return
        seen.add((about.st_dev, about.st_ino))
        with os.scandir(here) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        walk.closed.append(relative or ".")
        return
    inner: list[str] = []
    for entry in ordered:
        path = f"{relative}/{entry.name}" if relative else entry.name
        if not _is_meant(entry.name):
            walk.hidden.append(path)
        elif _is(entry.is_file):
            walk.files.append(path)
        else:
            (inner if _is(entry.is_dir) else walk.odd).append(path)
    for path in inner:
        _walk(root, path, walk, seen)


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # a link to itself
        return False


def _shown(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _is_meant(name: str) -> bool:
    return not name.startswith(".") and name not in LEFT_BY_MACHINES


def _is_text(path: str) -> bool:
    """Whether a file name is UTF-8; the bytes of others cannot be stored as text."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
