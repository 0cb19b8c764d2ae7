"""Digests of what files hold, without reading again what has not changed.

A shortcut beside the work (never part of a result) keeps the digest of each file under its path,
length, times of change and inode. Where one of those differs the file is read and its content
decides. Losing the shortcut costs one reading.
"""

import hashlib
import os
import stat
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from . import console, files, machine

CHECKED = "checked-1.npy"  # the number: of the checks; more of them are done on all files again
NONE = "-"  # in place of the digest of what is no file, or is not there
READERS = 8
AT_A_TIME = 1 << 12  # files between two savings of what is known
# A file changed as recently as this may change again within one tick of the clock, unseen.
SETTLED_NS = 2_000_000_000
SPARE = 1 << 16  # entries of earlier states that are kept beside those in use
ENTRY = np.dtype([("key", "<u8"), ("more", "<u8"), ("digest", "V16")])


class Contents:
    """Content digests of files below `root`, by a shortcut in the file `kept`."""

    def __init__(self, root: Path, kept: Path | None = None) -> None:
        self.root = os.path.realpath(root)
        name = hashlib.blake2b(os.fsencode(self.root), digest_size=16).hexdigest()
        self.kept = machine.scratch() / "contents" / f"{name}.npy" if kept is None else kept
        self._entries = _load(self.kept)
        self._used = np.zeros(len(self._entries), bool)
        self._fresh: dict[bytes, bytes] = {}

    def digests(self, paths: Sequence[str], label: str = "reading files") -> list[str]:
        """The digest of each of `paths`, relative to the root; NONE of what is no file there."""
        settled = time.time_ns() - SETTLED_NS
        keys = [_key(self.root, path, settled) for path in paths]
        known = self._known([key for key, _ in keys])
        unknown = [i for i, digest in enumerate(known) if digest is None and keys[i][0]]
        if unknown:
            self._read(paths, keys, unknown, known, label)
        return [NONE if digest is None else digest.hex() for digest in known]

    def save(self) -> None:
        """Keep what was read for the next time; where that cannot be written, it is read again."""
        if not self._fresh:
            return
        fresh = np.zeros(len(self._fresh), ENTRY)
        raw = np.frombuffer(b"".join(self._fresh), "<u8").reshape(-1, 2)
        fresh["key"], fresh["more"] = raw[:, 0], raw[:, 1]
        fresh["digest"] = np.frombuffer(b"".join(self._fresh.values()), "V16")
        if len(self._used) > SPARE + 4 * int(self._used.sum()):  # mostly of files that are gone
            self._entries, self._used = self._entries[self._used], self._used[self._used]
        both = np.concatenate([self._entries, fresh])
        used = np.concatenate([self._used, np.ones(len(fresh), bool)])
        order = np.argsort(both["key"], kind="stable")
        self._entries, self._used, self._fresh = both[order], used[order], {}
        try:
            with files.atomic(self.kept) as temporary, open(temporary, "wb") as file:
                np.save(file, self._entries, allow_pickle=False)
        except OSError:
            pass

    def _known(self, keys: list[bytes]) -> list[bytes | None]:
        """The digests of files known by `keys`, None of others."""
        digests: list[bytes | None] = [None] * len(keys)
        if len(self._entries) and keys:
            raw = np.frombuffer(b"".join(key or bytes(16) for key in keys), "<u8").reshape(-1, 2)
            first = np.searchsorted(self._entries["key"], raw[:, 0])
            first = np.minimum(first, len(self._entries) - 1)
            entries = self._entries[first]
            same = (entries["key"] == raw[:, 0]) & (entries["more"] == raw[:, 1])
            self._used[first[same]] = True
            bytes_of = entries["digest"].tobytes()
            for i in np.flatnonzero(same).tolist():
                digests[i] = bytes_of[16 * i : 16 * i + 16]
        for i, key in enumerate(keys) if self._fresh else ():
            digests[i] = self._fresh.get(key, digests[i])
        return digests

    def _read(
        self,
        paths: Sequence[str],
        keys: list[tuple[bytes, bool]],
        rows: list[int],
        found: list[bytes | None],
        label: str,
    ) -> None:
        """Read the files of `rows` and put their digests into `found`."""
        whole = [os.path.join(self.root, paths[i]) for i in rows]
        with ThreadPoolExecutor(READERS) as pool:
            digests = pool.map(_content, whole)
            for n, (i, digest) in enumerate(
                zip(rows, console.progress(digests, total=len(rows), label=label), strict=True), 1
            ):
                found[i] = digest
                key, settled = keys[i]
                if digest is not None and settled:
                    self._fresh[key] = digest
                if n % AT_A_TIME == 0:
                    self.save()


class Checked:
    """Whether a stored file was found whole already, as it lies there now."""

    def __init__(self, path: Path) -> None:
        self._seen = Contents(Path("/"), machine.scratch() / CHECKED)
        name = os.path.realpath(path).lstrip("/")
        self._key, self._settled = _key("", name, time.time_ns() - SETTLED_NS)

    def digest(self) -> str | None:
        """The payload digest that was checked; None where it is to be checked now."""
        known = self._seen._known([self._key])[0] if self._key else None
        return None if known is None else known.hex()

    def keep(self, digest: str) -> None:
        """Note what was found; only where there is a scratch folder, as in a project."""
        if self._key and self._settled and machine.scratch().is_dir():
            self._seen._fresh[self._key] = bytes.fromhex(digest)
            self._seen.save()


def forget_checked() -> None:
    """Check every stored file again when it is next opened."""
    (machine.scratch() / CHECKED).unlink(missing_ok=True)


def digest_of_pairs(names: Iterable[str], digests: Iterable[str]) -> str:
    """One digest of names and the digests of what they hold, in that order."""
    text = "".join(f"{name}\0{digest}\n" for name, digest in zip(names, digests, strict=True))
    content = text.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def digest_of_all(root: Path, paths: Iterable[str], label: str = "reading files") -> str:
    """One digest of the names and contents of `paths` below `root`, missing ones included."""
    names, contents = list(paths), Contents(root)
    digests = contents.digests(names, label)
    contents.save()
    return digest_of_pairs(names, digests)


def _key(root: str, path: str, settled: int) -> tuple[bytes, bool]:
    """(what a file is known by, b"" where there is none; whether it last changed before `settled`).

    Of 100,000 files this is most of the time of a look at which nothing changed.
    """
    try:
        about = os.stat(f"{root}/{path}")
    except (OSError, ValueError):
        return b"", False
    if not stat.S_ISREG(about.st_mode):
        return b"", False
    mtime, ctime = about.st_mtime_ns, about.st_ctime_ns
    text = f"{about.st_size} {mtime} {ctime} {about.st_ino}\0{path}"
    known = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()
    return known, mtime < settled and ctime < settled


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
    except OSError:
        return None


def _load(kept: Path) -> np.ndarray:
    try:
        with open(kept, "rb") as file:
            entries = np.lib.format.read_array(file, allow_pickle=False)
    except Exception:  # numpy's reader raises many kinds; what is lost is read again
        return np.zeros(0, ENTRY)
    sound = entries.dtype == ENTRY and entries.ndim == 1
    sound = sound and bool((np.diff(entries["key"].astype(np.float64)) >= 0).all())
    return entries if sound else np.zeros(0, ENTRY)
