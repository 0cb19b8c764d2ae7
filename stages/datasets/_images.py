"""Images of people's own: what a folder holds, what can be read, what is there twice."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from ..core import files
from ..core.console import progress
from ..core.errors import UserError
from ..images import lists, reading, samples
from ..images.listing import named, walked
from . import NotThere

SUFFIXES = reading.SUFFIXES
LARGE, BROKEN = "too large", "broken"
SAMPLE = 64  # files that stand for all of a set
GROUP_NUMBERS = 1 << 30  # room below int32 for numbers that are added to them


def folder_at(path: str, where: str) -> Path:
    """The folder that the setting `where` names; `~` is the home. UserError if it is none."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise NotThere(f"{where}: {path}: no such folder; give the one that holds the images")
    return folder


def missing(root: Path, paths: Iterable[str]) -> list[str]:
    """Those of `paths` that are no files below `root`."""
    return [path for path in paths if not os.path.isfile(root / path)]


def as_there(root: Path, paths: Sequence[str]) -> list[str]:
    """Each of `paths` as its file is called, where a list writes it a little otherwise."""
    absent = missing(root, paths)
    name = dict(zip(absent, lists.resolved(root, absent), strict=True))
    return [name.get(path, path) for path in paths]


def sample(root: Path, paths: Sequence[str]) -> list[Path]:
    """Some files of `paths`, evenly spaced, that are there."""
    some = paths[:: max(len(paths) // SAMPLE, 1)]
    return [root / path for path in some if os.path.isfile(root / path)]


def refuse_missing(root: Path, paths: Sequence[str], mend: str) -> None:
    """One line with the number and the first names of missing images, and how to `mend` it."""
    if absent := missing(root, paths):
        raise UserError(
            f"{root}: {len(absent)} of {len(paths)} images are missing: {named(absent)}; {mend}"
        )


def below(root: Path) -> tuple[list[str], list[str]]:
    """(paths, notes): the readable images of `root` and its sub-folders, relative, sorted.

    Raises UserError where none is left.
    """
    images, notes = walked(root, SUFFIXES)
    good, more = readable(root, images)
    if not good:
        reasons = "; ".join(notes + more) or "the folder is empty"
        raise UserError(f"{root}: no images ({reasons})")
    return good, notes + more


def readable(root: Path, paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """(paths, notes): the images that are whole and that later stages can read."""
    good: list[str] = []
    bad: list[str] = []
    large: list[str] = []
    needs_heif: list[str] = []
    odd: dict[str, str] = {}  # path -> what is odd about its values
    for path in progress(paths, total=len(paths), label="looking at images", part=True):
        if PurePosixPath(path).suffix.lower() in reading.HEIF and not reading.heif():
            needs_heif.append(path)
            continue
        reason = why_not(root / path)
        if reason in (None, LARGE, BROKEN):
            {None: good, LARGE: large}.get(reason, bad).append(path)
        else:
            odd[path] = str(reason)
    notes = []
    if needs_heif:
        notes.append(
            f"{len(needs_heif)} HEIC images left out (pip install pillow-heif reads them): "
            f"{named(needs_heif)}"
        )
    if large:
        notes.append(
            f"{len(large)} images left out, of more than {reading.most_pixels()} million pixels "
            f"(scaled down they can be read): {named(large)}"
        )
    if odd:
        reasons = named([f"{path} ({reason})" for path, reason in odd.items()])
        notes.append(f"{len(odd)} images left out, their values cannot be shown: {reasons}")
    if bad:
        notes.append(f"{len(bad)} files left out, broken or not images: {named(bad)}")
    return good, notes


def why_not(path: Path) -> str | None:
    """Why a file is none: LARGE, BROKEN, or what is odd about its values; None where it is one."""
    try:
        reading.check(path)
    except reading.TooLarge:
        return LARGE
    except samples.Unsuitable as error:
        return error.reason
    except UserError:
        return BROKEN
    return None


def is_whole(path: Path) -> bool:
    """Whether an image can be decoded to its end, which half a download cannot."""
    return why_not(path) is None


def copies(root: Path, paths: Iterable[str]) -> list[list[str]]:
    """The paths whose files have the same bytes, together; only files of equal length are read."""
    by_length: dict[int, list[str]] = defaultdict(list)
    for path in paths:
        by_length[(root / path).stat().st_size].append(path)
    same_bytes = []
    for candidates in by_length.values():
        by_digest: dict[str, list[str]] = defaultdict(list)
        for path in candidates if len(candidates) > 1 else ():
            by_digest[files.digest_of_file(root / path)].append(path)
        same_bytes += [same for same in by_digest.values() if len(same) > 1]
    return same_bytes


def note_copies(same: list[list[str]], among: Iterable[str]) -> list[str]:
    """A line on the images of `among` that are copies of others of it; none without any."""
    mine = set(among)
    within = [kept for group in same if len(kept := [p for p in group if p in mine]) > 1]
    if not within:
        return []
    extra = sum(len(group) - 1 for group in within)
    first = " = ".join(within[0][:2])
    return [f"{extra} images are copies of others, all kept; the first: {first}"]


def refuse_shared(
    root: Path, same: list[list[str]], training: Iterable[str], evaluation: Iterable[str]
) -> None:
    """UserError that names both files where an image is in training and evaluation."""
    learned, scored = set(training), set(evaluation)
    shared = [
        (next(p for p in group if p in learned), next(p for p in group if p in scored))
        for group in same
        if not learned.isdisjoint(group) and not scored.isdisjoint(group)
    ]
    if shared:
        raise UserError(
            f"{root}: {len(shared)} images are both in training and in evaluation, the first: "
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
