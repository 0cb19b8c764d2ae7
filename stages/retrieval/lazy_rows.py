"""Rows of descriptors, read and computed only when asked for, so that a database is never held.

Each of these has a length and gives a (b, d) array for a slice or an array of row numbers, as an
array on disk (a memory map) does; they can be put on top of each other.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ..core.contents import unit

Array = np.ndarray


class Rows(Protocol):
    """A memory map, an array, or one of the classes below."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Array: ...


class Picked:
    """The rows `rows` (n,) of `source`, in that order."""

    def __init__(self, source: Rows, rows: Array) -> None:
        self.source, self.rows = source, np.asarray(rows, dtype=np.int64)
        n = len(self.rows)
        self._first = int(self.rows[0]) if n else 0
        # a run of rows is a slice of the source, which need not be gathered
        self._run = bool((self.rows == np.arange(self._first, self._first + n)).all())

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Array:
        if self._run and isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            return self.source[self._first + start : self._first + max(start, stop)]
        return self.source[self.rows[index]]


class Joined:
    """The rows of `parts` one after the other."""

    def __init__(self, parts: Sequence[Rows]) -> None:
        self.parts = parts
        self._ends = np.cumsum([0, *(len(p) for p in parts)])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: Any) -> Array:
        if isinstance(index, slice):
            return self._slice(*index.indices(len(self))[:2])
        index = np.asarray(index)
        part = np.searchsorted(self._ends, index, side="right") - 1
        out: Array | None = None
        for p in np.unique(part):
            of_part = part == p
            rows = self.parts[p][index[of_part] - self._ends[p]]
            out = np.empty((len(index), rows.shape[1]), rows.dtype) if out is None else out
            out[of_part] = rows
        return self.parts[0][:0] if out is None else out

    def _slice(self, start: int, stop: int) -> Array:
        slices = [
            part[max(start - first, 0) : stop - first]
            for part, first in zip(self.parts, self._ends.tolist(), strict=False)
            if start < first + len(part) and first < stop
        ]
        if len(slices) == 1:
            return slices[0]
        return np.concatenate(slices) if slices else self.parts[0][:0]


class Mapped:
    """`function` of the rows that `sources` have in the same places."""

    def __init__(self, function: Callable[..., Array], *sources: Rows) -> None:
        self.function, self.sources = function, sources

    def __len__(self) -> int:
        return len(self.sources[0])

    def __getitem__(self, index: Any) -> Array:
        return self.function(*(source[index] for source in self.sources))


class Unit:
    """The rows of `source` as float32 of unit length: what is stored, of any type and length.

    Inner products of them are the cosines of what is stored; float16 alone is off by 5e-4.
    """

    def __init__(self, source: Rows) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: Any) -> Array:
        return unit(self.source[index])
