"""Learned whitening: the within-group covariance from seeded pairs, shrunk as held-out groups say.

After Mikolajczyk and Matas (ICCV 2007), as retrieval uses it, with shrinkage towards a multiple of
the identity. Images without a group are ignored.
"""

from typing import Literal

import numpy as np

from . import whitening
from .whitening import Array, Moments, Whitening

SHRINKAGES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.0)
HELD_SHARE = 0.2  # of the groups, to choose the shrinkage by
HELD_ROWS = 3000  # rows of held-out groups that are ranked


def fit(
    descriptor: Array,
    group: Array,
    image: Array,
    total: Moments,
    *,
    dim: int,
    pairs: int,
    shrinkage: Literal["auto"] | float,
    floor: float,
    seed: int,
) -> tuple[Whitening, float]:
    """Whitening of (m, d) rows by `group` (m,), -1 for none; `image` (m,) is each row's image.

    `pairs` rows pairs of a group are drawn, of different images where the group has them. Returns
    the whitening and the shrinkage.
    """
    rng = np.random.default_rng(seed)
    ids = np.unique(group[group >= 0])
    held = rng.permutation(ids)[: max(int(len(ids) * HELD_SHARE), 1)]
    if shrinkage == "auto":
        fitted = within(descriptor, np.where(np.isin(group, held), -1, group), image, pairs, rng)
        rows = np.flatnonzero(np.isin(group, held))
        rows = np.sort(rng.permutation(rows)[:HELD_ROWS])
        x = np.asarray(descriptor[rows], dtype=np.float32)
        scores = []
        for value in SHRINKAGES:
            w = whitening.fit_learned(
                total.mean, total.covariance, fitted, dim=dim, shrinkage=value, floor=floor
            )
            scores.append(mean_ap(whitening.apply(x, w), group[rows], image[rows]))
        shrinkage = SHRINKAGES[int(np.argmax(scores))]
    covariance = within(descriptor, group, image, pairs, rng)
    fitted_all = whitening.fit_learned(
        total.mean, total.covariance, covariance, dim=dim, shrinkage=shrinkage, floor=floor
    )
    return fitted_all, float(shrinkage)


def within(
    descriptor: Array, group: Array, image: Array, pairs: int, rng: np.random.Generator
) -> Array:
    """(d, d) covariance of half the differences of `pairs` seeded pairs within groups."""
    anchor, other = draw_pairs(group, image, pairs, rng)
    d = descriptor.shape[1]
    outer = np.zeros((d, d))
    for i in range(0, len(anchor), 8192):
        a, b = anchor[i : i + 8192], other[i : i + 8192]
        difference = descriptor[a].astype(np.float64) - descriptor[b].astype(np.float64)
        outer += difference.T @ difference
    return outer / (2 * max(len(anchor), 1))


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


def mean_ap(x: Array, group: Array, image: Array) -> float:
    """Mean average precision of (n, d) unit rows, each once the query; its own image is junk."""
    sims = x @ x.T
    sims[image[:, None] == image[None]] = -np.inf
    order = np.argsort(-sims, axis=1, kind="stable")
    hit = (group[order] == group[:, None]) & np.isfinite(np.take_along_axis(sims, order, 1))
    precision = hit.cumsum(1) / np.arange(1, len(x) + 1)
    counts = hit.sum(1)
    some = counts > 0  # rows that have another image of their group
    return float(((precision * hit).sum(1)[some] / counts[some]).mean()) if some.any() else 0.0
