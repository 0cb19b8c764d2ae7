"""Descriptor files that other programs wrote: HDF5 as people write it, read safely.

Read are `descriptor`, `image_id`, `path` and `start`, and attributes that are one value; what else
the file holds is passed over. Datasets may be compressed or in chunks; texts may be of variable
length, ids whole numbers. Links, external storage and virtual datasets are refused as ever.

A changed byte in a text of variable length can hang the HDF5 library or kill the process, so those
are read by a process of their own, which may take `SECONDS`.
"""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .contents import KINDS
from .errors import UserError

NAMES = tuple(KINDS["descriptors"])
HOW = 'write it so: f["descriptor"] = rows; f["image_id"] = list(ids)'
SECONDS = 60.0
CHUNK_BYTES = 1 << 28  # of one chunk, which is in memory whole
BLOCK_BYTES = 1 << 24
RATIO = 1100  # no filter of HDF5 makes more bytes of one
CHILD = """
import h5py, json, sys
texts, attributes = {}, {}
with h5py.File(sys.argv[1], "r") as file:
    for name in json.loads(sys.argv[2]):
        values = file[name][()].ravel().tolist()
        texts[name] = [v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in values]
    for key in json.loads(sys.argv[3]):
        value = file.attrs[key]
        attributes[key] = value.decode("utf-8") if isinstance(value, bytes) else str(value)
json.dump([texts, attributes], sys.stdout)
"""


class Chunked:
    """A dataset in chunks or compressed, (n, ...): read in blocks, never held whole."""

    def __init__(self, path: Path, name: str, dataset: h5py.Dataset) -> None:
        self.path, self.name = path, name
        self.shape, self.dtype = dataset.shape, dataset.dtype
        self.ndim, self.size = len(self.shape), int(dataset.size)
        row = self.dtype.itemsize * math.prod(self.shape[1:])
        chunk = dataset.chunks[0] if dataset.chunks else 1
        self.step = max(BLOCK_BYTES // max(row, 1) // chunk, 1) * chunk  # rows read at a time

    def __len__(self) -> int:
        return int(self.shape[0])

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows, in order."""
        with h5py.File(self.path, "r") as file:
            for first in range(0, len(self), self.step):
                yield np.asarray(file[self.name][first : first + self.step])

    def __getitem__(self, index: Any) -> np.ndarray:
        """Rows by a slice, a number, or an array of numbers or of truth values."""
        if isinstance(index, slice):
            with h5py.File(self.path, "r") as file:
                return np.asarray(file[self.name][index])
        rows = np.arange(len(self))[index]
        out = np.empty((rows.size, *self.shape[1:]), self.dtype)
        flat = rows.reshape(-1)
        with h5py.File(self.path, "r") as file:
            for block in np.unique(flat // self.step):
                in_block = flat // self.step == block
                first = int(block) * self.step
                out[in_block] = file[self.name][first : first + self.step][flat[in_block] - first]
        return out.reshape(*np.shape(rows), *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        out = np.empty(self.shape, dtype or self.dtype)
        first = 0
        for block in self.blocks():
            out[first : first + len(block)] = block
            first += len(block)
        return out


@contextmanager
def telling_how(foreign: bool) -> Iterator[None]:
    """Add to a refusal within the block how a file is written that is read."""
    try:
        yield
    except UserError as error:
        if foreign and HOW not in str(error):
            raise UserError(f"{error}; {HOW}") from None
        raise


def is_foreign(file: h5py.File) -> bool:
    """Whether a descriptor file is of another program: ours hold digests."""
    return "attributes_digest" not in file.attrs and "digest" not in file.attrs


def refuse_lacking(file: h5py.File, path: Path) -> None:
    """Raise UserError where the file has no `descriptor` or no `image_id`."""
    for name in ("descriptor", "image_id"):
        if name not in file:
            holds = ", ".join(list(file)[:4]) or "nothing"
            raise UserError(f"{path}: no dataset {name!r} (it holds {holds}); {HOW}")


def chunked(path: Path, name: str, dataset: h5py.Dataset) -> Chunked:
    """A dataset in chunks. Raises UserError where it claims more than its bytes can be."""
    claimed = int(dataset.size) * dataset.dtype.itemsize
    if claimed > RATIO * dataset.id.get_storage_size():
        raise UserError(f"{path}: {name!r} claims more rows than the file can hold; write it again")
    chunk = dataset.chunks or ()
    if not dataset.shape or math.prod(chunk) * dataset.dtype.itemsize > CHUNK_BYTES:
        raise UserError(
            f"{path}: a chunk of {name!r} has {math.prod(chunk)} values, too many to hold at a "
            f"time; {HOW}"
        )
    try:
        if not is_loose_text(dataset.dtype):
            dataset[:1]
    except OSError as error:
        line = str(error).splitlines()[0][:120]
        raise UserError(
            f"{path}: {name!r} is compressed by what is not here ({line}); {HOW}"
        ) from None
    return Chunked(path, name, dataset)


def is_loose_text(dtype: Any) -> bool:
    """Whether a type is text of variable length."""
    text = h5py.check_string_dtype(dtype)
    return text is not None and text.length is None


def attribute_names(file: h5py.File) -> tuple[list[str], list[str]]:
    """(attributes to read here, those that are text of variable length); others are passed over."""
    plain, loose = [], []
    for key in file.attrs:
        try:
            about = file.attrs.get_id(key)
            dtype, shape = about.dtype, about.shape
        except (TypeError, ValueError, OSError):  # a type that numpy does not have
            continue
        if shape == ():
            if is_loose_text(dtype):
                loose.append(key)
            elif dtype.kind in "iufS":
                plain.append(key)
    return plain, loose


def loose_texts(
    path: Path, datasets: list[str], attributes: list[str]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Texts of variable length: (datasets by name, attributes by key). Raises UserError."""
    if not datasets and not attributes:
        return {}, {}
    command = [sys.executable, "-c", CHILD, str(path), json.dumps(datasets), json.dumps(attributes)]
    damaged = f"{path}: its texts of variable length cannot be read; {HOW}"
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
        texts, values = json.loads(done.stdout) if done.returncode == 0 else (None, {})
    except (subprocess.TimeoutExpired, ValueError):
        raise UserError(damaged) from None
    if texts is None:
        raise UserError(damaged)
    return {name: np.array(one, dtype=str) for name, one in texts.items()}, dict(values)
