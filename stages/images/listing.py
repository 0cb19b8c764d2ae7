"""What a folder of people's own images holds, the same for training and for an index."""

import os
from collections.abc import Container, Sequence
from pathlib import Path, PurePosixPath

from ..core import console
from ..core.errors import UserError
from .reading import SUFFIXES

LEFT_BY_MACHINES = ("__MACOSX", "Thumbs.db", "desktop.ini")  # and whatever begins with a dot


def walked(root: Path, suffixes: Container[str]) -> tuple[list[str], list[str]]:
    """(relative posix paths of the images below `root`, sorted; a line on each kind left out).

    Links to folders are followed, each folder once; hidden files and folders and what machines
    leave behind are passed over, a folder as one.
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
        root, (found, left_out) = source, walked(source, SUFFIXES)
        for line in left_out:
            console.say(f"{source}: {line}")
    elif source.suffix.lower() in SUFFIXES and source.is_file():
        root, found = source.parent, [source.name]
    elif source.is_file():
        root = source.parent
        try:
            lines = source.read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            raise UserError(f"{source}: neither an image nor a list of paths in UTF-8") from None
        found = [line.strip() for line in lines if line.strip()]
    else:
        raise UserError(f"{source}: no such file or folder")
    if not found:
        raise UserError(f"{source}: no images in it ({', '.join(sorted(SUFFIXES))})")
    return root, found


def named(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _files(root: Path) -> tuple[list[str], list[str]]:
    """(files below `root`, hidden files and folders passed over), relative."""
    found: list[str] = []
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
        found += [(relative / name).as_posix() for name in names if _is_meant(name)]
    return found, [h.encode("utf-8", "replace").decode() for h in hidden]


def _is_meant(name: str) -> bool:
    return not name.startswith(".") and name not in LEFT_BY_MACHINES


def _is_text(path: str) -> bool:
    """Whether a file name is UTF-8; the bytes of others cannot be stored as text."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
