"""Exact ranking: a positive's rank is the number of database rows that score higher, or equal and
stand earlier.

The database is read in blocks, once for as many queries as `HELD_BYTES` of similarities serve; it
may be an array, a memory map or `rows.Rows`. Nothing of it is kept but a block.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..core import machine
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
        yield first, sims


def ranks_of(sims: Array, wanted: Array) -> Array:
    """0-based ranks of the rows `wanted` (p,) by the similarities `sims` (n,); ties by row."""
    if not len(wanted):
        return np.zeros(0, dtype=np.int64)
    score = sims[wanted]
    levels, level = np.unique(score, return_inverse=True)
    rivals = sims[sims >= levels[0]]  # only these can stand before any of the wanted
    rivals.sort()  # numpy's vector sort is faster than a search for each rival's place
    above = len(rivals) - np.searchsorted(rivals, levels, side="right")
    equal = len(rivals) - above - np.searchsorted(rivals, levels, side="left")
    earlier = np.zeros(len(wanted), dtype=np.int64)
    for i in np.flatnonzero(equal[level] > 1):  # ties are rare: look at each
        earlier[i] = np.count_nonzero(sims[: wanted[i]] == score[i])
    return above[level] + earlier


def ranks(
    query: Array, database: Rows, wanted: Sequence[dict[str, Array]]
) -> list[dict[str, Array]]:
    """For each query the ranks of its `wanted` database rows, by kind of answer."""
    if len(query) != len(wanted):
        raise ValueError(f"{len(query)} queries, but answers to {len(wanted)}")
    joined = [np.concatenate(list(answers.values())) for answers in wanted]
    out = []
    with ThreadPoolExecutor(machine.cores()) as pool:  # a sort needs no lock
        for first, sims in similarities(query, database):
            some = slice(first, first + len(sims))
            for answers, places in zip(
                wanted[some], pool.map(ranks_of, sims, joined[some]), strict=True
            ):
                cuts = np.cumsum([len(a) for a in answers.values()])[:-1]
                out.append(dict(zip(answers, np.split(places, cuts), strict=True)))
    return out


def first_rows(query: Array, database: Rows, k: int) -> Array:
    """(q, k) database rows that come first for each query."""
    return np.array([top(row, k) for _, sims in similarities(query, database) for row in sims])


def top(sims: Array, k: int) -> Array:
    """The k rows with the highest similarity, best first, ties by row."""
    k = min(k, len(sims))
    if k == 0:
        return np.zeros(0, dtype=np.int64)
    bound = np.partition(sims, len(sims) - k)[len(sims) - k]
    rows = np.flatnonzero(sims >= bound)
    return rows[np.lexsort((rows, -sims[rows]))][:k]
