"""Small files and digests: written whole or not at all."""

import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from .errors import UserError

SPARE_BYTES = 1 << 20  # room that a file needs beside its arrays
UNFINISHED = re.compile(r"\.(.+)\.(\d{1,9})\.tmp")  # what it becomes, and the process that writes
# What libraries that write by themselves hand on as text alone, of full and of closed disks.
AS_TEXT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EROFS)


def digest_of(value: Any) -> str:
    """Short digest of anything JSON can say (a map's order does not count)."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def digest_of_file(path: Path, algorithm: str = "blake2b") -> str:
    """Digest of a file's bytes: blake2b cut to 16 bytes, or whatever hashlib calls `algorithm`."""
    with open(path, "rb") as f:
        make = (lambda: hashlib.blake2b(digest_size=16)) if algorithm == "blake2b" else algorithm
        return hashlib.file_digest(f, make).hexdigest()


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """The temporary neighbour of `path` that is to become it, a file or a folder.

    What killed processes left of the same is removed first, what the block leaves is afterwards.
    Raises OSError with the name of `path` where the disk is full or closed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in _left_in(path.parent.absolute()).get(path.name, ()):
        remove(left)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
    except UserError:
        raise
    except Exception as error:
        _raise_of_the_system(error, path)
        raise
    finally:
        remove(temporary)


@contextmanager
def atomic(path: Path, sync: bool = True) -> Iterator[Path]:
    """A temporary neighbour of `path` to write to; renamed to `path` when the block ends well.

    `sync`: it is on the disk before it has its name; without, only a failing machine can lose it.
    """
    with unfinished(path) as temporary:
        yield temporary
        if sync:
            with open(temporary, "rb+") as f:
                os.fsync(f.fileno())
        os.replace(temporary, path)


def check_room(folder: Path, count: int) -> None:
    """Raise OSError where `folder` cannot be written to, or has no room for `count` bytes more."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        error.filename = str(folder)
        raise
    if shutil.disk_usage(folder).free < count + SPARE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


@cache
def _left_in(folder: Path) -> dict[str, list[Path]]:
    """Temporaries of processes that are gone, by what they were to become; looked at once.

    Of this process too: in a container every run may have the same number.
    """
    left: dict[str, list[Path]] = {}
    for name in os.listdir(folder):
        match = UNFINISHED.fullmatch(name)
        if match and (int(match[2]) == os.getpid() or not _is_running(int(match[2]))):
            left.setdefault(match[1], []).append(folder / name)
    return left


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # of somebody else; no number of a process
        return True
    return True


def remove(left: Path) -> None:
    """Remove a file or a folder, as much of it as can be; nothing where there is none."""
    if left.is_dir() and not left.is_symlink():
        shutil.rmtree(left, ignore_errors=True)
    else:
        left.unlink(missing_ok=True)


def _raise_of_the_system(error: Exception, path: Path) -> None:
    """Raise `error` as an OSError with number and name, where the system is what it speaks of."""
    if isinstance(error, OSError) and error.errno is not None:
        error.filename = error.filename or str(path)
        return
    for number in AS_TEXT:
        if os.strerror(number) in str(error):
            raise OSError(number, os.strerror(number), str(path)) from None


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def to_json(value: Any) -> str:
    """`value` as JSON people can read and diff, with a closing newline."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def to_csv(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as the lines of a table, quoted where a name needs it."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def read_json(path: Path) -> Any:
    """A JSON file. Raises UserError where it is none."""
    try:
        return parse_json(Path(path).read_bytes(), str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a folder, not a JSON file") from None


def parse_json(text: bytes | str, where: str) -> Any:
    """JSON in UTF-8, no key of a map twice. Raises UserError that names `where`."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        values = json.loads(text, object_pairs_hook=_map)
        if "\\ud" in text.lower():  # half a character, which no file name and no terminal takes
            json.dumps(values, ensure_ascii=False).encode()
        return values
    except RecursionError:
        raise UserError(f"{where}: JSON that is nested too deep") from None
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({' '.join(str(error).split())})") from None


def _map(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(k for k in keys if keys.count(k) > 1)!r} occurs twice")
    return values
