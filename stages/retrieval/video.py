"""How alike two videos are, from the descriptors of their frames; exact, in blocks.

A query has frames u_a, a candidate v_b, all of unit length:

    chamfer      the mean over a of the best match of u_a among the v_b (not symmetric)
    max, mean    the largest, the mean of all u_a . v_b
    mean_pooled  the cosine of the mean frames; max_pooled: of the element-wise maxima

Frames are read once, a block at a time, so that memory does not grow with the database; videos of
any length lie end to end, without padding.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from . import rank
from .lazy_rows import Array, Picked, Rows

BLOCK_FRAMES = 4096  # frames of candidates multiplied at a time, more where one video has more
PRODUCT_BYTES = 1 << 26  # of one product: so many frames of queries at a time
TINY = 1e-12


@dataclass(frozen=True)
class Clips:
    """Videos as the descriptors of their frames: video i has rows start[i] to start[i + 1]."""

    rows: Rows  # read when they are needed: a memory map, or computed from one
    start: Array  # (n + 1,) int64

    def __len__(self) -> int:
        return len(self.start) - 1

    def blocks(self, frames: int = BLOCK_FRAMES) -> Iterator[tuple[int, Array, Array]]:
        """(first video, its and the following videos' frames (f, d) float32, their start)."""
        first = 0
        while first < len(self):
            limit = self.start[first] + frames
            last = max(int(np.searchsorted(self.start, limit, side="right")) - 1, first + 1)
            span = slice(int(self.start[first]), int(self.start[last]))
            frames_of = np.asarray(self.rows[span], dtype=np.float32)
            yield first, frames_of, self.start[first:last] - span.start
            first = last

    def take(self, videos: Array) -> "Clips":
        """Some of the videos, in the order given."""
        count = np.diff(self.start)[videos]
        start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        frame = np.repeat(self.start[videos] - start[:-1], count) + np.arange(start[-1])
        return Clips(Picked(self.rows, frame), start)


def similarities(query: Clips, database: Clips, kind: str, videos: Array | None = None) -> Array:
    """(q, n) float32 similarities of every query with the `videos` (rows, ascending; None: all)."""
    videos = np.arange(len(database)) if videos is None else videos
    out = np.empty((len(query), len(videos)), dtype=np.float32)
    prepare, compare = KINDS[kind]
    queries = [(first, *prepare(u, start)) for first, u, start in query.blocks(_query_frames())]
    for first, v, start in database.blocks():
        v, start = prepare(v, start)
        columns = slice(*np.searchsorted(videos, (first, first + len(start))))
        for place, u, u_start in queries:
            sims = compare(u, u_start, v, start)
            out[place : place + len(u_start), columns] = sims[:, videos[columns] - first]
    rank.refuse_no_numbers(out)
    return out


def _query_frames() -> int:
    return PRODUCT_BYTES // (4 * BLOCK_FRAMES)


def _as_they_are(x: Array, start: Array) -> tuple[Array, Array]:
    return x, start


def _mean_frames(x: Array, start: Array) -> tuple[Array, Array]:
    """One row a video: the mean of its frames."""
    count = np.diff(start, append=len(x))
    return np.add.reduceat(x, start, axis=0) / count[:, None], np.arange(len(start))


def _mean_pooled(x: Array, start: Array) -> tuple[Array, Array]:
    mean, one = _mean_frames(x, start)
    return _unit(mean), one


def _max_pooled(x: Array, start: Array) -> tuple[Array, Array]:
    return _unit(np.maximum.reduceat(x, start, axis=0)), np.arange(len(start))


def _unit(x: Array) -> Array:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), TINY)


def _chamfer(u: Array, u_start: Array, v: Array, v_start: Array) -> Array:
    return _means(_best(u, v, v_start), u_start)


def _max(u: Array, u_start: Array, v: Array, v_start: Array) -> Array:
    return np.maximum.reduceat(_best(u, v, v_start), u_start, axis=0)


def _product(u: Array, u_start: Array, v: Array, v_start: Array) -> Array:
    return u @ v.T


def _best(u: Array, v: Array, v_start: Array) -> Array:
    """(frames of queries, videos): the best match of each frame in each video."""
    return np.maximum.reduceat(u @ v.T, v_start, axis=1)


def _means(x: Array, start: Array) -> Array:
    return np.add.reduceat(x, start, axis=0) / np.diff(start, append=len(x))[:, None]


Prepare = Callable[[Array, Array], tuple[Array, Array]]
Compare = Callable[[Array, Array, Array, Array], Array]
# What is done to the frames of a block of videos, then to two blocks.
KINDS: dict[str, tuple[Prepare, Compare]] = {
    "chamfer": (_as_they_are, _chamfer),
    "max": (_as_they_are, _max),
    "mean": (_mean_frames, _product),
    "mean_pooled": (_mean_pooled, _product),
    "max_pooled": (_max_pooled, _product),
}


def ranks(sims: Array, lists: Sequence[dict[str, Array]]) -> list[dict[str, Array]]:
    """For each row of `sims` (q, n) the ranks of the rows of its query's `lists`; ties by row."""
    return [
        rank.by_list(rank.ranks_of(row, rank.all_rows(of_query)), of_query)
        for row, of_query in zip(sims, lists, strict=True)
    ]
