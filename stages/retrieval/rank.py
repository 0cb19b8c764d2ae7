"""Exact ranking: a positive's rank is the number of database rows that score higher, or equal and
stand earlier.

The database is read in blocks, once for as many queries as `HELD_BYTES` of similarities serve; it
may be an array, a memory map or `rows.Rows`. Nothing of it is kept but a block.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..core import machine
from ..core.errors import UserError
from .lazy_rows import Rows

Array = np.ndarray
BLOCK_ROWS = 1 << 12  # database rows multiplied at a time: as many as stay in a cache
HELD_BYTES = 1 << 29  # similarities held at a time: 70 queries times a million rows fit


def similarities(
    query: Array, database: Rows, block_rows: int = BLOCK_ROWS
) -> Iterator[tuple[int, Array]]:
    """(first query, (q, n) float32 similarities) for slices of the queries, in order."""
    query = np.asarray(query, dtype=np.float32)
    held = max(HELD_BYTES // (4 * max(len(database), 1)), 1)
    for first in range(0, len(query), held):
        part = query[first : first + held]
        sims = np.empty((len(part), len(database)), dtype=np.float32)
        for start in range(0, len(database), block_rows):
            rows = np.asarray(database[start : start + block_rows], dtype=np.float32)
            sims[:, start : start + block_rows] = part @ rows.T  # into a slice it is slower
        refuse_no_numbers(sims, first)
        yield first, sims


def refuse_no_numbers(sims: Array, first: int = 0) -> None:
    """Raise UserError where (q, n) similarities hold NaN or infinity: no rank could be counted."""
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero(~np.isfinite(sims.sum(1)))
    if len(wrong):
        raise UserError(
            f"{len(wrong)} queries have similarities that are NaN or infinity, the first: query "
            f"{first + wrong[0]}; describe again"
        )


def ranks_of(sims: Array, rows: Array) -> Array:
    """0-based ranks of the database `rows` (p,) by the similarities `sims` (n,); ties by row."""
    if not len(rows):
        return np.zeros(0, dtype=np.int64)
    score = sims[rows]
    if np.isnan(score).any():  # would be counted as first
        raise UserError("a similarity is NaN, and has no rank; describe again")
    levels, level = np.unique(score, return_inverse=True)
    rivals = sims[sims >= levels[0]]  # only these can stand before any of the rows
    rivals.sort()  # numpy's vector sort is faster than a search for each rival's place
    above = len(rivals) - np.searchsorted(rivals, levels, side="right")
    equal = len(rivals) - above - np.searchsorted(rivals, levels, side="left")
    tied = np.zeros(len(rows), dtype=np.int64)  # rows of the same score that stand before
    for i in np.flatnonzero(equal[level] > 1):  # ties are rare: look at each
        tied[i] = np.count_nonzero(sims[: rows[i]] == score[i])
    return above[level] + tied


def by_list(ranks: Array, lists: dict[str, Array]) -> dict[str, Array]:
    """`ranks` of the rows of all `lists`, one list after the other, as ranks by list."""
    cuts = np.cumsum([len(rows) for rows in lists.values()])[:-1]
    return dict(zip(lists, np.split(ranks, cuts), strict=True))


def all_rows(lists: dict[str, Array]) -> Array:
    """The database rows of all lists, one list after the other."""
    return np.concatenate([*lists.values(), np.zeros(0, np.int64)]).astype(np.int64, copy=False)


def labelled(lists: Sequence[dict[str, Array]]) -> Array:
    """Database rows that are in a list of any query, ascending."""
    return np.unique(np.concatenate([all_rows(of_query) for of_query in lists] or [all_rows({})]))


def masked(sims: Array, lists: Sequence[dict[str, Array]], among: Array) -> Array:
    """`sims` (q, n) in place: -inf where a row is no candidate of a query.

    A query's candidates are the rows of its own lists, and all that are not `among` those labelled
    for some query; what is labelled for other queries only was never compared with it.
    """
    for row, of_query in zip(sims, lists, strict=True):
        row[np.setdiff1d(among, all_rows(of_query))] = -np.inf
    return sims


def ranks(
    query: Array, database: Rows, lists: Sequence[dict[str, Array]], mask: bool = False
) -> list[dict[str, Array]]:
    """For each query the ranks of the database rows of its `lists`, by list; `mask`: see masked."""
    if len(query) != len(lists):
        raise ValueError(f"{len(query)} queries, but lists of {len(lists)}")
    rows = [all_rows(of_query) for of_query in lists]
    out = []
    with ThreadPoolExecutor(machine.cores()) as pool:  # a sort needs no lock
        for first, sims in _compared(query, database, lists if mask else None):
            some = slice(first, first + len(sims))
            of_rows = pool.map(ranks_of, sims, rows[some])
            out += [by_list(r, q) for r, q in zip(of_rows, lists[some], strict=True)]
    return out


def first_rows(
    query: Array, database: Rows, k: int, mask: Sequence[dict[str, Array]] | None = None
) -> Array:
    """(q, k) database rows that come first for each query; `mask`: lists by which to mask."""
    return np.array([top(row, k) for _, sims in _compared(query, database, mask) for row in sims])


def _compared(
    query: Array, database: Rows, mask: Sequence[dict[str, Array]] | None
) -> Iterator[tuple[int, Array]]:
    """`similarities`, masked by the lists `mask` of the queries where they are given."""
    among = None if mask is None else labelled(mask)
    for first, sims in similarities(query, database):
        if mask is not None and among is not None:
            masked(sims, mask[first : first + len(sims)], among)
        yield first, sims


def top(sims: Array, k: int) -> Array:
    """The k rows with the highest similarity, best first, ties by row."""
    k = min(k, len(sims))
    if k == 0:
        return np.zeros(0, dtype=np.int64)
    bound = np.partition(sims, len(sims) - k)[len(sims) - k]
    rows = np.flatnonzero(sims >= bound)
    return rows[np.lexsort((rows, -sims[rows]))][:k]
