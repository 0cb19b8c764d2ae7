"""Votes of whitened teachers on labels: pairs that all of them call the same, or different.

A teacher's bounds are quantiles of its own similarities of images of different groups: "same" is
a pair closer than nearly all of those, "different" one no closer than most of them. n images, T
teachers; descriptors are one unit row an image and teacher. Nothing of (n, n) is ever held.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
BLOCK_ROWS = 2048
SAMPLED_PAIRS = 1 << 19  # pairs that the bounds are quantiles of, at least
EXCEEDING = 50  # sampled pairs beyond the bound of "same": fewer would make it a guess
SEEDS = 64  # members of a group whose neighbourhoods are tried as its other part


@dataclass(frozen=True)
class Bounds:
    """(T,) similarities above which a teacher says same, and up to which it says different."""

    same: Array
    different: Array


@dataclass(frozen=True)
class Part:
    """Images of a group that do not seem to belong to the rest of it.

    `share`: of the pairs between `rows` and `rest` (rows of images), those that every teacher
    calls different.
    """

    group: int
    rows: Array
    rest: Array
    share: float


def of_images(descriptor: Array, spans: Array) -> Array:
    """(n, d) float16 unit rows: the mean of each image's stored views (m, d), by `spans`."""
    out = np.empty((len(spans) - 1, descriptor.shape[1]), dtype=np.float16)
    for first in range(0, len(out), BLOCK_ROWS):
        cuts = spans[first : first + BLOCK_ROWS + 1]
        rows = np.asarray(descriptor[cuts[0] : cuts[-1]], dtype=np.float32)
        mean = np.add.reduceat(rows, cuts[:-1] - cuts[0], axis=0)
        mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
        out[first : first + len(mean)] = mean
    return out


def bounds(
    teachers: Sequence[Array], group: Array, *, neighbours: float, different: float, seed: int
) -> Bounds:
    """Each teacher's bounds, from seeded pairs of images of different groups.

    `neighbours`: pairs of other groups that an image has above `same`, on average. `different`:
    share of the pairs of different groups that are below its bound. `group` (n,), -1: none.
    """
    n = len(group)
    rate = min(neighbours / n, 0.5)
    count = max(SAMPLED_PAIRS, int(EXCEEDING / rate))
    similarities: list[list[Array]] = [[] for _ in teachers]
    for start in range(0, count, SAMPLED_PAIRS):
        rng = np.random.default_rng([seed, start])
        a, b = rng.integers(n, size=(2, min(SAMPLED_PAIRS, count - start)))
        apart = (group[a] != group[b]) & (group[a] >= 0) & (group[b] >= 0)
        a, b = a[apart], b[apart]
        for sims, rows in zip(similarities, teachers, strict=True):
            sims.append(of_pairs(rows, a, b))
    quantiles = [np.quantile(np.concatenate(s), [1 - rate, different]) for s in similarities]
    same, low = np.array(quantiles, dtype=np.float32).T
    return Bounds(same, low)


def same_pairs(teachers: Sequence[Array], group: Array, limit: Bounds) -> Iterator[Array]:
    """(p, 2) pairs of images, first < second, of different groups that every teacher calls the
    same; one array for each block of rows. An image without a group counts as its own."""
    n = len(group)
    for top in range(0, n, BLOCK_ROWS):
        kept = []
        for left in range(top, n, BLOCK_ROWS):
            a, b = slice(top, top + BLOCK_ROWS), slice(left, left + BLOCK_ROWS)
            apart = (group[a, None] != group[None, b]) | (group[a, None] < 0)
            if left == top:
                apart &= np.triu(np.ones(apart.shape, dtype=bool), 1)
            for rows, bound in zip(teachers, limit.same, strict=True):
                if not apart.any():  # most blocks are settled by one or two teachers
                    break
                apart &= _product(rows[a], rows[b]) > bound
            kept.append(np.argwhere(apart) + (top, left))
        yield np.concatenate(kept)


def within(teachers: Sequence[Array], rows: Array, limit: Bounds) -> tuple[Array, Array]:
    """((g, g) pairs of one group's images called different by all, and called same by all)."""
    sims = np.stack([_product(t[rows], t[rows]) for t in teachers])
    different: Array = np.all(sims <= limit.different[:, None, None], axis=0)
    same: Array = np.all(sims > limit.same[:, None, None], axis=0)
    np.fill_diagonal(different, False)
    np.fill_diagonal(same, False)
    return different, same


def odd_part(group: int, rows: Array, different: Array) -> Part | None:
    """The cut of a group (at least three images) across which most pairs are called different.

    Tried are each image alone, and the images that one member is not called different from.
    The smaller side is the odd one.
    """
    g = len(rows)
    if g < 3 or not different.any():
        return None
    alone = np.eye(g, dtype=bool)
    around = ~different[: min(g, SEEDS)] | alone[: min(g, SEEDS)]
    best: tuple[float, int, Array] | None = None
    for side in (*alone, *around):
        few = min(int(side.sum()), g - int(side.sum()))
        if not few:
            continue
        share = float(different[np.ix_(side, ~side)].mean())
        if best is None or (share, few) > best[:2]:
            best = (share, few, side if 2 * side.sum() <= g else ~side)
    if best is None:
        return None
    return Part(group, rows[best[2]], rows[~best[2]], best[0])


def of_pairs(rows: Array, a: Array, b: Array) -> Array:
    """(p,) similarities of rows `a` (p,) with rows `b` (p,), some at a time."""
    step = 1 << 16
    parts = [
        np.einsum(
            "pd,pd->p",
            rows[a[i : i + step]].astype(np.float32),
            rows[b[i : i + step]].astype(np.float32),
        )
        for i in range(0, len(a), step)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def _product(a: Array, b: Array) -> Array:
    return a.astype(np.float32) @ b.astype(np.float32).T
