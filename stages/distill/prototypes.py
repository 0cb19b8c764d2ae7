"""Prototypes: where the ensemble puts each group, in one frame that the student can share.

The whitened teachers of a view, concatenated (T unit vectors over sqrt T), projected by an
uncentred PCA and L2-normalised, are its fused embedding; inner products of it are the mean fusion
as nearly as the dimension allows. A prototype is the L2-normalised mean over a group's views.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from .whitening import Array, Whitening, l2n, spectrum


def concatenate(teachers: Sequence[Array]) -> Array:
    """(b, d_k) whitened rows of each teacher to (b, sum d_k) float32 of unit length.

    Its inner products are the mean of the teachers' similarities.
    """
    ends = np.cumsum([t.shape[1] for t in teachers])
    out = np.empty((len(teachers[0]), ends[-1]), dtype=np.float32)
    for columns, t in zip(np.split(out, ends[:-1], axis=1), teachers, strict=True):
        columns[...] = t  # float16 to float32 and into place at once
    out *= np.float32(len(teachers) ** -0.5)
    return out


def fit_projection(blocks: Iterable[Array], dim: int) -> Whitening:
    """Uncentred PCA of concatenated rows to `dim`: a whitening with mean zero and exponent 0."""
    second, count = None, 0
    for rows in blocks:
        rows = rows.astype(np.float64)
        second = rows.T @ rows if second is None else second + rows.T @ rows
        count += len(rows)
    assert second is not None
    values, vectors = spectrum(second / count)
    energy = float(values[:dim].sum() / values.sum())
    return Whitening(np.zeros(len(values)), vectors[:, :dim].T, values[:dim], energy)


class Means:
    """L2-normalised means of rows by label, from blocks in any order. (p, dim) float32 sums."""

    def __init__(self, count: int, dim: int) -> None:
        self._sum = np.zeros((count, dim), dtype=np.float32)

    def add(self, label: Array, rows: Array) -> None:
        """Add (b, dim) `rows` to the sums of their `label` (b,), ascending labels fastest."""
        if not len(label):
            return
        rows = np.asarray(rows, dtype=np.float32)
        if (np.diff(label) < 0).any():
            order = np.argsort(label, kind="stable")
            label, rows = label[order], rows[order]
        first = np.flatnonzero(np.r_[True, np.diff(label) != 0])
        self._sum[label[first]] += np.add.reduceat(rows, first, axis=0)

    def result(self) -> Array:
        """(p, dim) float32, unit rows."""
        return l2n(self._sum)


class Ridge:
    """Least squares from (n, d) `x`: the product of x with itself is made once for all targets."""

    def __init__(self, x: Array) -> None:
        x = np.asarray(x, dtype=np.float64)
        self._mean = x.mean(0)
        self._x = x - self._mean
        self._gram = self._x.T @ self._x

    def fit(self, y: Array, strength: float) -> tuple[Array, Array]:
        """Linear map (weight (out, d), bias (out,)) to (n, out) `y`.

        `strength` is relative to the mean variance of x, so that one grid serves every backbone.
        """
        y = np.asarray(y, dtype=np.float64)
        my = y.mean(0)
        gram = self._gram.copy()
        gram[np.diag_indices_from(gram)] += strength * np.trace(gram) / len(gram)
        weight = np.linalg.solve(gram, self._x.T @ (y - my)).T
        return weight, my - weight @ self._mean


def ridge(x: Array, y: Array, strength: float) -> tuple[Array, Array]:
    """`Ridge` of one target."""
    return Ridge(x).fit(y, strength)


STRENGTHS = tuple(float(s) for s in 10.0 ** np.arange(-3, 3.5, 0.5))


class RidgeByGroups:
    """Ridge whose strength is the one with the best mean cosine on held-out groups.

    A fifth of the groups (`unit` (n,)) is held out once to choose; then all rows are fitted.
    """

    def __init__(
        self, x: Array, unit: Array, seed: int, strengths: Sequence[float] = STRENGTHS
    ) -> None:
        ids = np.unique(unit)
        held = np.random.default_rng(seed).permutation(ids)[: max(len(ids) // 5, 1)]
        self._out = np.isin(unit, held)
        self._strengths = strengths
        self._all = Ridge(x)
        self._held_x = x[self._out]
        one = self._out.all() or not self._out.any()
        self._rest = None if one else Ridge(x[~self._out])

    def fit(self, y: Array) -> tuple[Array, Array, float]:
        """(weight (out, d), bias (out,), strength) to (n, out) `y`."""
        if self._rest is None:
            return *self._all.fit(y, 1.0), 1.0
        scores = []
        for strength in self._strengths:
            weight, bias = self._rest.fit(y[~self._out], strength)
            near = l2n(self._held_x @ weight.T + bias) * l2n(y[self._out])
            scores.append(float(near.sum(1).mean()))
        best = self._strengths[int(np.argmax(scores))]
        return *self._all.fit(y, best), best


def ridge_by_groups(
    x: Array, y: Array, unit: Array, seed: int, strengths: Sequence[float] = STRENGTHS
) -> tuple[Array, Array, float]:
    """(weight, bias, strength) of `RidgeByGroups` of one target."""
    return RidgeByGroups(x, unit, seed, strengths).fit(y)
