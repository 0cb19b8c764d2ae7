"""Pictures of people's own: what a folder holds, what can be read, what is there twice."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from ..core import images, store
from ..core.console import progress
from ..core.errors import UserError

SUFFIXES = images.SUFFIXES
LEFT_BY_MACHINES = ("__MACOSX", "Thumbs.db", "desktop.ini")  # and whatever begins with a dot
# How a whole file ends, a little padding aside. Further up the same bytes may end the thumbnail in
# a JPEG's header.
END = {".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9", ".png": b"IEND\xae\x42\x60\x82"}
TAIL_BYTES, PADDING = 64, b"\0\r\n"
GROUP_NUMBERS = 1 << 30  # room below int32 for numbers that are added to them


def folder_at(path: str, where: str) -> Path:
    """The folder that the setting `where` names; `~` is the home. UserError if it is none."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"{where}: {path}: no such folder; give the one that holds the pictures")
    return folder


def named(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def missing(root: Path, paths: Iterable[str]) -> list[str]:
    """Those of `paths` that are no files below `root`."""
    return [path for path in paths if not os.path.isfile(root / path)]


def refuse_missing(root: Path, paths: Sequence[str], mend: str) -> None:
    """One line with the number and the first names of missing pictures, and how to `mend` it."""
    if absent := missing(root, paths):
        raise UserError(
            f"{root}: {len(absent)} of {len(paths)} pictures are missing: {named(absent)}; {mend}"
        )


def below(root: Path) -> tuple[list[str], list[str]]:
    """(paths, notes): the readable pictures of `root` and its sub-folders, relative, sorted.

    Raises UserError where none is left.
    """
    files = sorted(_files(root))
    pictures = [f for f in files if PurePosixPath(f).suffix.lower() in SUFFIXES]
    notes = []
    if others := len(files) - len(pictures):
        kinds = Counter(PurePosixPath(f).suffix.lower() or "no suffix" for f in files)
        odd = sorted(kind for kind in kinds if kind not in SUFFIXES)
        notes.append(f"{others} files left out, not pictures by their suffix: {named(odd)}")
    good, more = readable(root, pictures)
    if not good:
        told = "; ".join(notes + more) or "the folder is empty"
        raise UserError(f"{root}: no pictures ({told})")
    return good, notes + more


def readable(root: Path, paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """(paths, notes): the pictures that are whole and that later stages can read."""
    good: list[str] = []
    bad: list[str] = []
    needs_heif: list[str] = []
    odd: list[str] = []
    for path in progress(paths, total=len(paths), label="looking at pictures"):
        if not _is_text(path):
            odd.append(path.encode("utf-8", "replace").decode())
        elif PurePosixPath(path).suffix.lower() in images.HEIF and not images.heif():
            needs_heif.append(path)
        else:
            (good if is_picture(root / path) else bad).append(path)
    notes = []
    if odd:
        notes.append(f"{len(odd)} pictures left out, their names are not UTF-8: {named(odd)}")
    if needs_heif:
        notes.append(
            f"{len(needs_heif)} HEIC pictures left out (pip install pillow-heif reads them): "
            f"{named(needs_heif)}"
        )
    if bad:
        notes.append(f"{len(bad)} files left out, broken or not pictures: {named(bad)}")
    return good, notes


def is_picture(path: Path) -> bool:
    """Whether the header can be read, and the file is whole."""
    try:
        images.shape(path)
    except UserError:
        return False
    return is_whole(path)


def is_whole(path: Path) -> bool:
    """Whether a picture can be decoded to its end, which half a download cannot.

    Decoded only where the end of the file does not show it already.
    """
    if mark := END.get(path.suffix.lower()):
        with open(path, "rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - TAIL_BYTES, 0))
            if file.read().rstrip(PADDING).endswith(mark):
                return True
    try:
        images.read(path)
    except UserError:
        return False
    return True


def copies(root: Path, paths: Iterable[str]) -> list[list[str]]:
    """The paths whose files have the same bytes, together; only files of equal length are read."""
    by_length: dict[int, list[str]] = defaultdict(list)
    for path in paths:
        by_length[(root / path).stat().st_size].append(path)
    found = []
    for candidates in by_length.values():
        by_digest: dict[str, list[str]] = defaultdict(list)
        for path in candidates if len(candidates) > 1 else ():
            by_digest[store.digest_of_file(root / path)].append(path)
        found += [same for same in by_digest.values() if len(same) > 1]
    return found


def note_copies(same: list[list[str]], among: Iterable[str]) -> list[str]:
    """A line on the pictures of `among` that are copies of others of it; none without any."""
    mine = set(among)
    within = [kept for group in same if len(kept := [p for p in group if p in mine]) > 1]
    if not within:
        return []
    extra = sum(len(group) - 1 for group in within)
    first = " = ".join(within[0][:2])
    return [f"{extra} pictures are copies of others, all kept; the first: {first}"]


def refuse_shared(
    root: Path, same: list[list[str]], training: Iterable[str], evaluation: Iterable[str]
) -> None:
    """UserError that names both files where a picture is in training and evaluation."""
    learned, asked = set(training), set(evaluation)
    shared = [
        (next(p for p in group if p in learned), next(p for p in group if p in asked))
        for group in same
        if not learned.isdisjoint(group) and not asked.isdisjoint(group)
    ]
    if shared:
        raise UserError(
            f"{root}: {len(shared)} pictures are both in training and in evaluation, the first: "
            f"{shared[0][0]} (training) is {shared[0][1]} (evaluation); remove one of them"
        )


def group_numbers(names: Iterable[str]) -> dict[str, int]:
    """A number for every name, made from the name, so that more names change next to none."""
    number: dict[str, int] = {}
    taken: set[int] = set()
    for name in sorted(set(names)):
        value = rank(name) % GROUP_NUMBERS
        while value in taken:
            value = (value + 1) % GROUP_NUMBERS
        taken.add(value)
        number[name] = value
    return number


def rank(text: str) -> int:
    """A number of 8 bytes that depends on `text` and on nothing else: a seeded order of names."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _files(root: Path) -> list[str]:
    """All files below `root` as relative posix paths; links to folders followed, each once."""
    found: list[str] = []
    seen: set[str] = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        here = os.path.realpath(folder)
        if here in seen:  # a link back up, or a second way to the same folder
            inner.clear()
            continue
        seen.add(here)
        inner[:] = sorted(name for name in inner if _is_meant(name))
        relative = Path(folder).relative_to(root)
        found += [(relative / name).as_posix() for name in names if _is_meant(name)]
    return found


def _is_meant(name: str) -> bool:
    return not name.startswith(".") and name not in LEFT_BY_MACHINES


def _is_text(path: str) -> bool:
    """Whether a file name is UTF-8; the bytes of others cannot be stored as text."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
