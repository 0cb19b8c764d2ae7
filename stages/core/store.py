"""Files of arrays: HDF5 with a format, a payload digest and the digests of what they came from.

A file is written under a temporary name and renamed when whole. Arrays are contiguous, so that a
reader memory-maps them and a row costs what it weighs. Strings are fixed-length UTF-8 (a changed
byte in a variable-length one can hang the library). A reader refuses links, external storage,
virtual datasets and filters, a payload that is not what the digest says, and another kind of file.
Attributes are written in sorted order and hold neither times nor versions: same inputs, same bytes.
"""

import errno
import hashlib
import math
import mmap
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import UserError
from .files import atomic, digest_of

BLOCK_BYTES = 1 << 24  # what is hashed or copied at a time
SPARE_BYTES = 1 << 20  # room that a file needs beside its arrays


def file_format(kind: str) -> str:
    """The attribute `format` of a file of `kind`."""
    return f"whiten-mtd/{kind}/1"


def _check_room(path: Path, count: int) -> None:
    """Raise OSError where `count` bytes more would not fit beside `path`."""
    if shutil.disk_usage(path.parent).free < count + SPARE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path.parent))


class Writer:
    """One file being written, its datasets row by row. Use `with create(...) as writer`."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._rows: dict[str, int] = {}
        self._hash: dict[str, Any] = {}

    def dataset(self, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        """Reserve a contiguous dataset; its rows come by `append`.

        Raises OSError where it does not fit on the disk: HDF5 itself crashes when a disk fills up.
        """
        _check_room(Path(self._file.filename), math.prod(shape) * np.dtype(dtype).itemsize)
        self._file.create_dataset(name, shape, dtype, track_times=False)
        self._rows[name] = 0
        self._hash[name] = hashlib.blake2b(digest_size=16)

    def append(self, name: str, rows: np.ndarray) -> None:
        """Write the next `rows` of dataset `name`, from the first on."""
        dataset, start = self._file[name], self._rows[name]
        rows = np.ascontiguousarray(rows, dtype=dataset.dtype)
        if len(rows):
            dataset[start : start + len(rows)] = rows
        self._rows[name] = start + len(rows)
        self._hash[name].update(rows.view(np.uint8).data if rows.size else b"")

    def array(self, name: str, values: np.ndarray) -> None:
        """Write a whole dataset; arrays of str become fixed-length UTF-8."""
        values = np.asarray(values)
        if values.dtype.kind == "U":
            values = _encode(values)
            dtype = h5py.string_dtype("utf-8", values.dtype.itemsize)
            self.dataset(name, values.shape, dtype)
        else:
            self.dataset(name, values.shape, values.dtype)
        self.append(name, values)

    def digest(self) -> str:
        """Digest of all datasets: names, types, shapes and bytes."""
        for name, rows in self._rows.items():
            if rows != len(self._file[name]):
                raise RuntimeError(f"{name}: {rows} of {len(self._file[name])} rows written")
        return _payload(self._file, {n: h.hexdigest() for n, h in self._hash.items()})


@contextmanager
def create(path: Path, kind: str, **attributes: Any) -> Iterator[Writer]:
    """A new file of `kind`, moved to `path` when the block ends well. Attributes: str or number."""
    with atomic(path) as temporary:
        _check_room(temporary, 0)
        with h5py.File(temporary, "w", libver=("v110", "v110")) as file:
            writer = Writer(file)
            yield writer
            values = {**attributes, "format": file_format(kind), "digest": writer.digest()}
            values["attributes_digest"] = digest_of(values)
            for key in sorted(values):
                _set_attribute(file, key, values[key])


def write(path: Path, kind: str, arrays: Mapping[str, np.ndarray], **attributes: Any) -> None:
    """Write arrays that fit in memory as one file of `kind`."""
    with create(path, kind, **attributes) as writer:
        for name, values in arrays.items():
            writer.array(name, values)


class Stored:
    """One checked file: `attributes`, and arrays by name, memory-mapped where they are big."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path = Path(path)
        try:
            with h5py.File(self.path, "r") as file:
                # Descriptors may come from any program: neither a digest nor its texts are ours.
                foreign = kind == "descriptors"
                self._places = {name: _place(file, name, self.path) for name in file}
                self.attributes = {k: _attribute(file, k, foreign) for k in file.attrs}
                self._check_kind(kind)
                self._check_attributes(foreign)
                self._check_digest(file, foreign)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; run the stage that writes it") from None
        except (OSError, RuntimeError, ValueError, KeyError, UnicodeDecodeError) as error:
            raise UserError(
                f"{path}: not a whole {kind} file ({_short(error)}); write it again"
            ) from None

    @property
    def digest(self) -> str:
        """The payload digest, checked when the file was opened."""
        return str(self.attributes["digest"])

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __getitem__(self, name: str) -> np.ndarray:
        """Dataset `name`: a read-only memory map, or an array of str."""
        if name not in self._places:
            raise UserError(f"{self.path}: no dataset {name!r}; write the file again")
        array = _map(self.path, *self._places[name])
        return np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array

    def text(self, name: str) -> str:
        """Attribute `name` as text; a missing one is an error."""
        if name not in self.attributes:
            raise UserError(f"{self.path}: no attribute {name!r}; write the file again")
        return str(self.attributes[name])

    def _check_kind(self, kind: str) -> None:
        own = self.attributes.get("format")
        if own != file_format(kind):
            raise UserError(f"{self.path}: a file of {file_format(kind)} is needed, not {own}")

    def _check_attributes(self, foreign: bool) -> None:
        values = {k: v for k, v in self.attributes.items() if k != "attributes_digest"}
        stated = self.attributes.get("attributes_digest")
        if not (foreign and stated is None) and stated != digest_of(values):
            raise UserError(
                f"{self.path}: its attributes are not what their digest says (altered or damaged); "
                "write it again"
            )

    def _check_digest(self, file: h5py.File, foreign: bool) -> None:
        parts = {name: _hash(self.path, *place) for name, place in self._places.items()}
        digest = _payload(file, parts)
        if foreign:
            self.attributes.setdefault("digest", digest)
        if digest != self.attributes.get("digest"):
            raise UserError(
                f"{self.path}: its content is not what its digest says (altered or damaged); "
                "write it again"
            )


def _encode(values: np.ndarray) -> np.ndarray:
    encoded = np.char.encode(values, "utf-8")
    return encoded if encoded.dtype.itemsize else encoded.astype("S1")


def _place(file: h5py.File, name: str, path: Path) -> tuple[int | None, tuple[int, ...], Any]:
    """(offset, shape, dtype) of a plain contiguous dataset; anything else is refused."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise UserError(f"{path}: {name!r} is a link to another place; only plain data is read")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise UserError(f"{path}: {name!r} is no dataset")
    creation = dataset.id.get_create_plist()
    if dataset.external or dataset.is_virtual or dataset.chunks or creation.get_nfilters():
        raise UserError(f"{path}: {name!r} is chunked, filtered or stored elsewhere; refused")
    text = h5py.check_string_dtype(dataset.dtype)
    if dataset.dtype.kind not in "iufS" or (text is not None and text.length is None):
        raise UserError(f"{path}: {name!r} has type {dataset.dtype}, which is not read")
    dtype = np.dtype(f"S{text.length}") if text is not None else dataset.dtype
    offset = dataset.id.get_offset()
    if dataset.size and offset is None:
        raise UserError(f"{path}: {name!r} has no data")
    # A map past the end of a truncated file would kill the process, not raise.
    if offset is not None and offset + dataset.size * dtype.itemsize > path.stat().st_size:
        raise UserError(f"{path}: truncated in {name!r}; write it again")
    return offset, dataset.shape, dtype


def _map(path: Path, offset: int | None, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    if offset is None:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape)


def blocks(array: np.ndarray, pieces: Iterable[Any]) -> Iterator[np.ndarray]:
    """Copies of `array[piece]` for slices or row numbers; what was read is not kept in memory."""
    for piece in pieces:
        out = np.array(array[piece])
        forget(array)
        yield out


def forget(array: np.ndarray) -> None:
    """Let go of the pages of a memory map that were read; the next reading fetches them again."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None:
        mapped.madvise(mmap.MADV_DONTNEED)


def _hash(path: Path, offset: int | None, shape: tuple[int, ...], dtype: Any) -> str:
    """Digest of a dataset's bytes, read in blocks: through a map they would pile up in memory."""
    hasher = hashlib.blake2b(digest_size=16)
    left = math.prod(shape) * np.dtype(dtype).itemsize if offset is not None else 0
    with open(path, "rb") as file:
        file.seek(offset or 0)
        while left:
            block = file.read(min(left, BLOCK_BYTES))
            if not block:
                raise ValueError("truncated")
            hasher.update(block)
            left -= len(block)
    return hasher.hexdigest()


def _payload(file: h5py.File, digests: Mapping[str, str]) -> str:
    parts = [[n, file[n].dtype.str, list(file[n].shape), digests[n]] for n in sorted(digests)]
    return digest_of(parts)


def _set_attribute(file: h5py.File, key: str, value: str | float) -> None:
    """Texts of a fixed length: a changed byte in a variable-length one can hang the library."""
    if isinstance(value, str):
        raw = value.encode("utf-8") or b"\0"
        file.attrs.create(key, np.bytes_(raw), dtype=h5py.string_dtype("utf-8", len(raw)))
    else:
        file.attrs[key] = value


def _attribute(file: h5py.File, key: str, foreign: bool) -> Any:
    """An attribute as str or number; the types that cannot be trusted are refused unread."""
    dtype = file.attrs.get_id(key).dtype
    if dtype.kind not in "iufbS" and not (foreign and h5py.check_string_dtype(dtype)):
        raise ValueError(f"attribute {key} has a type that is not read")
    value = file.attrs[key]
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value.item() if isinstance(value, np.generic) else value


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
