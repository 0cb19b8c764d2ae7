"""What each kind of file holds: its datasets, and what is true of their rows; checked here alone.

A reader of a file need not ask whether a descriptor is finite and of unit length: a file in which
one is not is never opened (`store.Stored`) and never written (`store.Writer`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
UNIT = 2e-3  # how far from 1 the length of a unit row may be: float16 rounds it by 5e-4 at most
TINY, HUGE = 1e-12, 1e18  # lengths that float32 can square
CHECKED_ROWS = 1024  # rows looked at a time: as many as stay in a cache
SHOWN = 3  # rows that a message names
NO_NUMBER, ZERO, LENGTH = "have NaN or infinity", "are all zeros", "are not of unit length"


@dataclass(frozen=True)
class Content:
    """A dataset: its number of axes, the kinds of its type, and what holds for its numbers.

    `rows`: "" nothing, "finite" no NaN and no infinity, "unit" also of unit length.
    """

    axes: int
    types: str  # kinds of numpy types: i u whole numbers, f fractions, S texts
    rows: str = ""
    optional: bool = False


WHOLE, NUMBERS, TEXTS = "iu", "iuf", "S"
ROWS = Content(2, "f", "unit")
# kind -> dataset -> what it is. A dataset that is not named here may be anything.
KINDS: dict[str, dict[str, Content]] = {
    "train": {
        "image_id": Content(1, TEXTS), "path": Content(1, TEXTS), "group": Content(1, WHOLE),
        "view_image": Content(1, WHOLE), "view": Content(2, "f", "finite"),
    },
    "evaluation": {
        "image_id": Content(1, TEXTS), "path": Content(1, TEXTS), "role": Content(1, TEXTS),
        "box": Content(2, "f"), "start": Content(1, WHOLE, optional=True),
    },
    "features": {"descriptor": ROWS},
    "whitening": {
        "mean": Content(1, "f", "finite"), "projection": Content(2, "f", "finite"),
        "eigenvalue": Content(1, "f", "finite"),
    },
    "whitened": {"descriptor": ROWS},
    "targets": {
        "anchor": Content(2, WHOLE), "positive": Content(2, WHOLE),
        "target": Content(3, "f", "finite"),
    },
    "prototypes": {"prototype": ROWS, "view_prototype": Content(1, WHOLE)},
    "descriptors": {
        "descriptor": Content(2, NUMBERS, "unit"), "image_id": Content(1, WHOLE + TEXTS),
        "path": Content(1, TEXTS, optional=True), "start": Content(1, WHOLE, optional=True),
    },
    "images": {
        "id": Content(1, WHOLE), "root": Content(1, WHOLE), "path": Content(1, TEXTS),
        "image_id": Content(1, TEXTS), "bytes": Content(1, WHOLE),
    },
}  # fmt: skip
NAMES = {"i": "whole numbers", "u": "whole numbers", "f": "fractions", "S": "texts"}


def odd(kind: str, places: Mapping[str, tuple[tuple[int, ...], Any]]) -> str:
    """Why datasets `name -> (shape, type)` are not those of `kind`; empty where they are.

    Those that are absent are named when they are asked for.
    """
    for name, content in KINDS.get(kind, {}).items():
        if name not in places:
            continue
        shape, dtype = places[name]
        if len(shape) != content.axes:
            return f"{name!r} has the shape {shape}, not {content.axes} axes"
        if np.prod(shape) and np.dtype(dtype).kind not in content.types:
            wanted = " or ".join(dict.fromkeys(NAMES[t] for t in content.types))
            return f"{name!r} has type {dtype}, not {wanted}"
    return ""


class Check:
    """Looks at the rows of a dataset while they pass by, in order.

    `wrong`: what is wrong -> how many rows, and the numbers of the first ones.
    """

    def __init__(self, rows: str) -> None:
        self.rows = rows
        self.seen = 0
        self.wrong: dict[str, tuple[int, list[int]]] = {}

    def __call__(self, rows: Array) -> None:
        """Look at (b, ...) more rows."""
        for first in range(0, len(rows) if self.rows else 0, CHECKED_ROWS):
            part = rows[first : first + CHECKED_ROWS]
            self._note(part.reshape(len(part), -1), self.seen + first)
        self.seen += len(rows)

    def _note(self, rows: Array, first: int) -> None:
        if rows.dtype.kind != "f" and self.rows == "finite":
            return
        single = rows.dtype.itemsize < 4 or rows.dtype == np.float32
        values: Any = rows.astype(np.float32 if single else np.float64, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            squares: Array = np.einsum("ij,ij->i", values, values)
        if np.isfinite(squares).all() and (
            self.rows == "finite" or (np.abs(squares - 1) <= 2 * UNIT).all()
        ):
            return
        finite: Array = np.isfinite(values).all(1)
        self._add(NO_NUMBER, ~finite, first)
        if self.rows == "unit":
            zero: Array = ~values.any(1)
            far: Array = ~(np.abs(squares - 1) <= 2 * UNIT)
            self._add(ZERO, zero, first)
            self._add(LENGTH, finite & ~zero & far, first)

    def _add(self, what: str, which: Array, first: int) -> None:
        rows = np.flatnonzero(which)
        if len(rows):
            count, shown = self.wrong.get(what, (0, []))
            more = [first + int(r) for r in rows[: SHOWN - len(shown)]]
            self.wrong[what] = count + len(rows), shown + more

    def line(self, lengths: bool = True, name: Callable[[int], str] = str) -> str:
        """What is wrong, by number and the first rows; empty where nothing is.

        `lengths`: whether rows that are not of unit length are wrong. `name`: of a row.
        """
        for what in (NO_NUMBER, ZERO, *([LENGTH] if lengths else [])):
            if what in self.wrong:
                count, shown = self.wrong[what]
                first = ", ".join(map(name, shown))
                return f"{count} of {self.seen} rows {what}, the first: {first}"
        return ""

    @property
    def unit(self) -> bool:
        """Whether all rows are of unit length."""
        return not self.wrong


def unit(rows: Any) -> Array:
    """(n, d) rows of any numbers as float32 of unit length; a row of zeros stays one."""
    values = np.asarray(rows)
    if values.dtype != np.float64:
        values = values.astype(np.float32, copy=False)
    with np.errstate(over="ignore", under="ignore"):
        length = np.linalg.norm(values, axis=-1, keepdims=True)
    if values.dtype == np.float64 or not ((length > TINY) & (length < HUGE)).all():
        values = values.astype(np.float64)
        largest = np.abs(values).max(-1, keepdims=True, initial=0)
        values = values / np.where(largest > 0, largest, 1)
        length = np.linalg.norm(values, axis=-1, keepdims=True)
    return (values / np.maximum(length, TINY)).astype(np.float32, copy=False)


def twice(ids: Iterable[str] | Array, named: str = "ids") -> str:
    """Which `ids` occur twice, in words; empty where none does."""
    values, counts = np.unique(np.asarray(ids), return_counts=True)
    twice = values[counts > 1]
    if not len(twice):
        return ""
    first = twice[0].decode("utf-8", "replace") if isinstance(twice[0], bytes) else str(twice[0])
    return f"{len(twice)} {named} occur twice, the first: {first}"
