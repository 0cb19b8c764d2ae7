"""Datasets and attributes of an HDF5 file as plain bytes: where they lie, their digests."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from . import contents, foreign
from .errors import UserError
from .files import digest_of

BLOCK_BYTES = 1 << 24  # what is hashed at a time


def refuse_elsewhere(file: h5py.File, name: str, path: Path) -> None:
    """Raise UserError unless `name` is a dataset whose data lie in this file."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise UserError(f"{path}: {name!r} is a link to another place; only plain data is read")
    if not isinstance(file[name], h5py.Dataset):
        raise UserError(f"{path}: {name!r} is no dataset")
    if file[name].external or file[name].is_virtual:
        raise UserError(f"{path}: {name!r} is stored elsewhere; refused")


def place(file: h5py.File, name: str, path: Path) -> tuple[int | None, tuple[int, ...], Any]:
    """(offset, shape, dtype) of a plain contiguous dataset; anything else is refused."""
    refuse_elsewhere(file, name, path)
    dataset = file[name]
    if dataset.chunks or dataset.id.get_create_plist().get_nfilters():
        raise UserError(f"{path}: {name!r} is chunked or filtered; refused")
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


def hash(
    path: Path, offset: int | None, shape: tuple[int, ...], dtype: Any, check: contents.Check
) -> str:
    """Digest of a dataset's bytes, read in blocks: through a map they would pile up in memory.

    `check` looks at its rows as they pass by.
    """
    hasher = hashlib.blake2b(digest_size=16)
    row = math.prod(shape[1:]) * np.dtype(dtype).itemsize
    left = shape[0] * row if shape and offset is not None else row if offset is not None else 0
    step = max(BLOCK_BYTES // max(row, 1), 1) * max(row, 1)
    with open(path, "rb") as file:
        file.seek(offset or 0)
        while left:
            block = file.read(min(left, step))
            if not block or len(block) % max(row, 1):
                raise ValueError("truncated")
            hasher.update(block)
            if check.rows:
                check(np.frombuffer(block, dtype).reshape(-1, *shape[1:]))
            left -= len(block)
    return hasher.hexdigest()


def hash_of(array: Any, check: contents.Check) -> str:
    """Digest of what another program's file holds, read in blocks, as `hash` is of a map."""
    hasher = hashlib.blake2b(digest_size=16)
    for block in array.blocks() if isinstance(array, foreign.Chunked) else [np.asarray(array)]:
        block = np.ascontiguousarray(block)
        hasher.update(block.view(np.uint8).data if block.size else b"")
        check(block)
    return hasher.hexdigest()


def payload(shapes: Mapping[str, tuple[tuple[int, ...], Any]], digests: Mapping[str, str]) -> str:
    parts = [[n, np.dtype(t).str, list(s), digests[n]] for n, (s, t) in sorted(shapes.items())]
    return digest_of(parts)


def set_attribute(file: h5py.File, key: str, value: str | float) -> None:
    """Texts of a fixed length: a changed byte in a variable-length one can hang the library."""
    if isinstance(value, str):
        raw = value.encode("utf-8") or b"\0"
        file.attrs.create(key, np.bytes_(raw), dtype=h5py.string_dtype("utf-8", len(raw)))
    else:
        file.attrs[key] = value


def kind_of(path: Path) -> str:
    """The kind that a stored file says it is; empty where it says none."""
    try:
        with h5py.File(path, "r") as file:
            own = attribute(file, "format", False) if "format" in file.attrs else ""
    except (
        OSError,
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
    ):  # damaged: said when it is opened
        own = ""
    parts = str(own).split("/")
    return parts[1] if len(parts) == 3 else ""


def attribute(file: h5py.File, key: str, foreign: bool) -> Any:
    """An attribute as str or number; the types that cannot be trusted are refused unread."""
    dtype = file.attrs.get_id(key).dtype
    if dtype.kind not in "iufbS" and not (foreign and h5py.check_string_dtype(dtype)):
        raise ValueError(f"attribute {key} has a type that is not read")
    value = file.attrs[key]
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value.item() if isinstance(value, np.generic) else value


def short(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
