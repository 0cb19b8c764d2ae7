"""Files of arrays: HDF5 with a format, a payload digest and the digests of what they came from.

A file is written under a temporary name and renamed when whole. Arrays are contiguous, so that a
reader memory-maps them and a row costs what it weighs. Strings are fixed-length UTF-8 (a changed
byte in a variable-length one can hang the library). A reader refuses links, external storage,
virtual datasets and filters, a payload that is not what the digest says, and another kind of file.
Attributes are written in sorted order and hold neither times nor versions: same inputs, same bytes.
"""

import hashlib
import math
import mmap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from . import contents, foreign, hdf5, seen_files
from .errors import UserError
from .files import atomic, check_room, digest_of


def file_format(kind: str) -> str:
    """The attribute `format` of a file of `kind`."""
    return f"whiten-mtd/{kind}/1"


class Writer:
    """One file being written, its datasets row by row. Use `with create(...) as writer`."""

    def __init__(self, file: h5py.File, kind: str, path: Path) -> None:
        self._file, self._kind, self._path = file, kind, path
        self._rows: dict[str, int] = {}
        self._hash: dict[str, Any] = {}
        self._check: dict[str, contents.Check] = {}

    def dataset(self, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        """Reserve a contiguous dataset; its rows come by `append`.

        Raises OSError where it does not fit on the disk: HDF5 itself crashes when a disk fills up.
        """
        check_room(Path(self._file.filename).parent, math.prod(shape) * np.dtype(dtype).itemsize)
        self._file.create_dataset(name, shape, dtype, track_times=False)
        self._rows[name] = 0
        self._hash[name] = hashlib.blake2b(digest_size=16)
        self._check[name] = _check_of(self._kind, name)

    def append(self, name: str, rows: np.ndarray) -> None:
        """Write the next `rows` of dataset `name`, from the first on.

        Raises UserError for rows that the kind of file does not hold (`contents`).
        """
        dataset, start = self._file[name], self._rows[name]
        rows = np.ascontiguousarray(rows, dtype=dataset.dtype)
        self._check[name](rows)
        if line := self._check[name].line():
            raise UserError(f"{self._path}: {name}: {line}; nothing is written")
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
        shapes = {n: (self._file[n].shape, self._file[n].dtype) for n in self._rows}
        return hdf5.payload(shapes, {n: h.hexdigest() for n, h in self._hash.items()})


@contextmanager
def create(path: Path, kind: str, **attributes: Any) -> Iterator[Writer]:
    """A new file of `kind`, moved to `path` when the block ends well. Attributes: str or number."""
    with atomic(path) as temporary:
        check_room(temporary.parent, 0)
        with h5py.File(temporary, "w", libver=("v110", "v110")) as file:
            writer = Writer(file, kind, path)
            yield writer
            values = {**attributes, "format": file_format(kind), "digest": writer.digest()}
            values["attributes_digest"] = digest_of(values)
            for key in sorted(values):
                hdf5.set_attribute(file, key, values[key])


def write(path: Path, kind: str, arrays: Mapping[str, np.ndarray], **attributes: Any) -> None:
    """Write arrays that fit in memory as one file of `kind`."""
    with create(path, kind, **attributes) as writer:
        for name, values in arrays.items():
            writer.array(name, values)


class Stored:
    """One checked file: `attributes`, and arrays by name, memory-mapped where they are big."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = Path(path), kind
        self.unit = True  # whether the rows of a descriptor file are of unit length
        try:
            with h5py.File(self.path, "r") as file:
                # Descriptors may come from any program: neither a digest nor its texts are ours.
                free = kind == "descriptors"
                self._foreign = free and foreign.is_foreign(file)
                with foreign.telling_how(self._foreign):
                    self._read = self._other(file) if self._foreign else {}
                    names = [n for n in file if not self._foreign or n in foreign.NAMES]
                    self._places = {
                        n: hdf5.place(file, n, self.path) for n in names if n not in self._read
                    }
                if not self._foreign:
                    self.attributes = {k: hdf5.attribute(file, k, free) for k in file.attrs}
                self._check_kind(kind)
                self._check_attributes(free)
                self._check_digest(file, free)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; run the stage that writes it") from None
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            how = f"; {foreign.HOW}" if kind == "descriptors" else "; write it again"
            raise UserError(f"{path}: not a whole {kind} file ({hdf5.short(error)}){how}") from None

    def _other(self, file: h5py.File) -> dict[str, Any]:
        """What is read of another program's file otherwise than by a map; its attributes too."""
        foreign.refuse_lacking(file, self.path)
        for name in (n for n in foreign.NAMES if n in file):
            hdf5.refuse_elsewhere(file, name, self.path)
        read: dict[str, Any] = {
            n: foreign.chunked(self.path, n, file[n])
            for n in foreign.NAMES
            if n in file and (file[n].chunks or foreign.is_loose_text(file[n].dtype))
        }
        loose = [n for n, one in read.items() if foreign.is_loose_text(one.dtype)]
        plain, texts = foreign.attribute_names(file)
        of_datasets, of_attributes = foreign.loose_texts(self.path, loose, texts)
        self.attributes = {k: hdf5.attribute(file, k, True) for k in plain} | of_attributes
        return {**read, **of_datasets}

    @property
    def digest(self) -> str:
        """The payload digest, checked when the file was opened."""
        return str(self.attributes["digest"])

    def __contains__(self, name: str) -> bool:
        return name in self._places or name in self._read

    def __getitem__(self, name: str) -> np.ndarray:
        """Dataset `name`: a read-only memory map, or an array of str."""
        if name not in self:
            raise UserError(f"{self.path}: no dataset {name!r}; write the file again")
        array = self._read[name] if name in self._read else _map(self.path, *self._places[name])
        content = contents.KINDS.get(self.kind, {}).get(name)
        if content is not None and contents.TEXTS in content.types and array.dtype.kind != "U":
            array = np.asarray(array)
            if array.dtype.kind != "S":
                return array.astype(str)  # ids of other programs may be whole numbers
        if array.dtype.kind != "S":
            return array
        try:
            return np.char.decode(np.asarray(array), "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path}: {name!r} is not UTF-8 ({error})") from None

    def ids(self) -> np.ndarray:
        """(n,) str `image_id`. Raises UserError where one occurs twice."""
        ids = self["image_id"]
        if line := contents.twice(ids):
            raise UserError(f"{self.path}: {line}; keep one row of each")
        return ids

    def of_teacher(self, teacher: str) -> "Stored":
        """This file. Raises UserError where it says that it is of another teacher."""
        own = self.attributes.get("teacher", teacher)
        if own != teacher:
            raise UserError(
                f"{self.path}: of teacher {own}, not {teacher}; run the stage that writes it again"
            )
        return self

    def text(self, name: str) -> str:
        """Attribute `name` as text; a missing one is an error."""
        if name not in self.attributes:
            raise UserError(f"{self.path}: no attribute {name!r}; write the file again")
        return str(self.attributes[name])

    def number(self, name: str, least: float, most: float) -> float:
        """Attribute `name`, `least` to `most`; a missing or another one is an error."""
        value = self.attributes.get(name)
        if not isinstance(value, int | float) or not least <= value <= most:
            raise UserError(f"{self.path}: attribute {name!r} is {value!r}; write the file again")
        return float(value)

    def _check_kind(self, kind: str) -> None:
        own = self.attributes.get("format")
        if own != file_format(kind) and not (self._foreign and own is None):
            raise UserError(f"{self.path}: a file of {file_format(kind)} is needed, not {own}")

    def _check_attributes(self, foreign: bool) -> None:
        values = {k: v for k, v in self.attributes.items() if k != "attributes_digest"}
        stated = self.attributes.get("attributes_digest")
        if not (foreign and stated is None) and stated != digest_of(values):
            raise UserError(
                f"{self.path}: its attributes are not what their digest says (altered or damaged); "
                "write it again"
            )

    def _check_digest(self, file: h5py.File, free: bool) -> None:
        shapes = {n: place[1:] for n, place in self._places.items()}
        shapes |= {n: (array.shape, array.dtype) for n, array in self._read.items()}
        texts = {n: place for n, place in shapes.items() if np.dtype(place[1]).kind == "U"}
        if line := contents.odd(
            self.kind, {**shapes, **{n: (p[0], "S1") for n, p in texts.items()}}
        ):
            raise UserError(f"{self.path}: {line}; {foreign.HOW if free else 'write it again'}")
        known = None if self._foreign else seen_files.Checked(self.path)
        if known is not None and known.digest() == self.attributes.get("digest", ""):
            return
        checks = {name: _check_of(self.kind, name) for name in shapes}
        parts = {n: hdf5.hash(self.path, *p, checks[n]) for n, p in self._places.items()}
        parts |= {n: hdf5.hash_of(a, checks[n]) for n, a in self._read.items()}
        digest = hdf5.payload(shapes, parts)
        if free:
            self.attributes.setdefault("digest", digest)
        if digest != self.attributes.get("digest"):
            raise UserError(
                f"{self.path}: its content is not what its digest says (altered or damaged); "
                "write it again"
            )
        ours = "attributes_digest" in self.attributes
        self._check_rows(checks, ours)
        if known is not None and ours:
            known.keep(digest)

    def _check_rows(self, checks: Mapping[str, contents.Check], ours: bool) -> None:
        """Raise UserError for rows that are no numbers, or of another length in a file of ours."""
        both = "descriptor" in self and "image_id" in self
        lone = self.kind == "descriptors" and "start" not in self and both
        if lone and (n := len(self["descriptor"])) != (ids := len(self["image_id"])):
            raise UserError(
                f"{self.path}: its datasets have different lengths: {n} rows, {ids} ids"
            )
        for name, check in checks.items():
            if line := check.line(lengths=ours, name=self._name_of):
                raise UserError(f"{self.path}: {name}: {line}; leave them out, or write it again")
            self.unit = self.unit and check.unit

    def _name_of(self, row: int) -> str:
        """How a message calls a row: by its number, and its id where there is one."""
        if self.kind != "descriptors" or "start" in self or "image_id" not in self:
            return f"row {row}"
        return f"row {row} ({self['image_id'][row]})"


def _check_of(kind: str, name: str) -> contents.Check:
    """A check of the rows of dataset `name` in a file of `kind`."""
    content = contents.KINDS.get(kind, {}).get(name)
    return contents.Check(content.rows if content else "")


def _encode(values: np.ndarray) -> np.ndarray:
    encoded = np.char.encode(values, "utf-8")
    return encoded if encoded.dtype.itemsize else encoded.astype("S1")


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
