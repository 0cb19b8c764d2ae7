"""The within-group covariance that learned whitening starts from, of pairs of a group.

After Mikolajczyk and Matas (ICCV 2007), as retrieval uses it. Images without a group are ignored.
"""

import numpy as np

from .whitening import Array


def within(
    descriptor: Array, group: Array, image: Array, pairs: int, rng: np.random.Generator
) -> Array:
    """(d, d) covariance of half the differences of pairs within groups: `pairs` seeded ones, or
    all where so many rows are no more work.

    `descriptor` (m, d); `group` (m,), -1 for none, and `image` (m,) are those of each row.
    """
    inside = np.flatnonzero(group >= 0)
    if len(inside) <= pairs:
        rows = inside[np.lexsort((image[inside], group[inside]))]
        return within_all(np.asarray(descriptor)[rows], group[rows], image[rows])
    anchor, other = draw_pairs(group, image, pairs, rng)
    d = descriptor.shape[1]
    outer = np.zeros((d, d))
    for i in range(0, len(anchor), 8192):
        a, b = anchor[i : i + 8192], other[i : i + 8192]
        difference = descriptor[a].astype(np.float64) - descriptor[b].astype(np.float64)
        outer += difference.T @ difference
    return outer / (2 * max(len(anchor), 1))


def within_all(x: Array, unit: Array, item: Array) -> Array:
    """What `within` tends to with ever more pairs, (d, d), from sums alone.

    `x` (n, d) rows in runs of one `unit` and, inside it, of one `item` (the image); every unit
    counts as `draw_pairs` counts it: pairs of one item are left out where there are others.
    """
    x = np.asarray(x, dtype=np.float64)
    starts = np.flatnonzero(np.r_[True, np.diff(unit) != 0])
    item_starts = np.flatnonzero(np.r_[True, (np.diff(unit) != 0) | (np.diff(item) != 0)])
    size = np.diff(np.r_[starts, len(x)]).astype(np.float64)
    item_size = np.diff(np.r_[item_starts, len(x)])
    run = np.repeat(np.arange(len(starts)), size.astype(int))  # of each row
    weight = 1 / np.maximum(size * (size - 1), 1)  # of a pair of rows
    sums = np.add.reduceat(x, starts) * np.sqrt(weight)[:, None]
    item_sums = np.add.reduceat(x, item_starts) * np.sqrt(weight[run[item_starts]])[:, None]
    others = size[run] - np.repeat(item_size, item_size)  # rows of other items in the unit
    if not others.any():  # one item each: its own rows are the pairs
        others, item_sums = size[run] - 1.0, x * np.sqrt(weight[run])[:, None]
    rows = x * np.sqrt(weight[run] * others)[:, None]
    return (rows.T @ rows - sums.T @ sums + item_sums.T @ item_sums) / (weight[run] * others).sum()


def draw_pairs(
    group: Array, image: Array, pairs: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Rows (anchor, other) of the same group; same-image pairs are left out where possible."""
    rows = np.flatnonzero(group >= 0)
    rows = rows[np.argsort(group[rows], kind="stable")]
    _, start, size = np.unique(group[rows], return_index=True, return_counts=True)
    g = rng.integers(len(start), size=pairs)
    first = (rng.random(pairs) * size[g]).astype(np.int64)
    step = 1 + (rng.random(pairs) * np.maximum(size[g] - 1, 1)).astype(np.int64)
    a, b = rows[start[g] + first], rows[start[g] + (first + step) % size[g]]
    different = image[a] != image[b]
    return (a[different], b[different]) if different.any() else (a, b)
