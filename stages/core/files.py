"""Small files and digests: written whole or not at all."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import UserError


def digest_of(value: Any) -> str:
    """Short digest of anything JSON can say (a map's order does not count)."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def digest_of_file(path: Path, algorithm: str = "blake2b") -> str:
    """Digest of a file's bytes: blake2b cut to 16 bytes, or whatever hashlib calls `algorithm`."""
    with open(path, "rb") as f:
        make = (lambda: hashlib.blake2b(digest_size=16)) if algorithm == "blake2b" else algorithm
        return hashlib.file_digest(f, make).hexdigest()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary neighbour of `path` to write to; renamed to `path` when the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as f:
            os.fsync(f.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
