"""Whitening: one language for all teachers.

    y = P (x - m), then L2;   P = diag(l^-exponent) V^T from a covariance, PCA or learned.

`pca`: C is the covariance of the descriptors. `learned` (after Mikolajczyk and Matas): the
within-group covariance, shrunk towards the total one, is made white first, and the directions kept
are those of the total covariance after it. Both give one mean and one projection.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core import store
from ..core.errors import UserError

Array = np.ndarray


@dataclass(frozen=True)
class Whitening:
    """`mean` (d,), `projection` (out, d), `eigenvalue` (out,) float64; `energy_kept` of 1."""

    mean: Array
    projection: Array
    eigenvalue: Array
    energy_kept: float


class Moments:
    """Mean and covariance of rows that come in blocks, in float64."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self._shift: Array | None = None  # near the mean: keeps the sums small
        self._sum = np.zeros(dim)
        self._outer = np.zeros((dim, dim))

    def add(self, rows: Array) -> None:
        """Take in (b, dim) rows."""
        rows = np.asarray(rows, dtype=np.float64)
        if not len(rows):
            return
        if self._shift is None:
            self._shift = rows.mean(0)
        rows = rows - self._shift
        self.count += len(rows)
        self._sum += rows.sum(0)
        self._outer += rows.T @ rows

    @property
    def mean(self) -> Array:
        """(dim,)"""
        shift = 0.0 if self._shift is None else self._shift
        return shift + self._sum / max(self.count, 1)

    @property
    def covariance(self) -> Array:
        """(dim, dim), divided by the number of rows."""
        centre = self._sum / max(self.count, 1)
        return self._outer / max(self.count, 1) - np.outer(centre, centre)


def moments(blocks: Iterable[Array], dim: int) -> Moments:
    """Moments of all rows of `blocks`."""
    m = Moments(dim)
    for rows in blocks:
        m.add(rows)
    return m


def fit_pca(
    mean: Array, covariance: Array, *, dim: int, exponent: float, floor: float
) -> Whitening:
    """Whitening by the covariance's `dim` largest directions, eigenvalues floored at
    `floor` of the largest."""
    values, vectors = _spectrum(covariance, floor)
    scale = values[:dim] ** -exponent
    held = ((covariance @ vectors) * vectors).sum(0)  # before the floor
    kept = float(held[:dim].sum() / held.sum())
    return Whitening(mean, scale[:, None] * vectors[:, :dim].T, values[:dim], kept)


def fit_learned(
    mean: Array, total: Array, within: Array, *, dim: int, shrinkage: float, floor: float
) -> Whitening:
    """Whitening by the `within`-group covariance, shrunk by `shrinkage` (0 to 1) towards a
    multiple of the identity, followed by a rotation to the `dim` largest directions of the
    `total` covariance."""
    d = len(within)
    shrunk = (1 - shrinkage) * within + shrinkage * (np.trace(within) / d) * np.eye(d)
    values, vectors = _spectrum(shrunk, floor)
    white = (vectors * values**-0.5) @ vectors.T
    kept_values, kept_vectors = _spectrum(white @ total @ white.T, floor)
    energy = float(kept_values[:dim].sum() / kept_values.sum())
    return Whitening(mean, kept_vectors[:, :dim].T @ white, kept_values[:dim], energy)


def apply(rows: Array, by: Whitening) -> Array:
    """(b, d) descriptors to (b, out) float32, whitened and L2-normalised."""
    p = by.projection.astype(np.float32)
    y = np.asarray(rows, dtype=np.float32) @ p.T - p @ by.mean.astype(np.float32)
    return l2n(y)


def l2n(rows: Array) -> Array:
    """Rows of unit length; zero rows stay zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def read(path: Path) -> Whitening:
    """The whitening of a file of kind whitening."""
    f = store.Stored(path, "whitening").of_teacher(path.stem)
    mean, projection, eigenvalue = (f[k] for k in ("mean", "projection", "eigenvalue"))
    if projection.shape != (len(eigenvalue), len(mean)) or not projection.size:
        raise UserError(f"{path}: its projection does not fit its mean; whiten again")
    return Whitening(
        np.asarray(mean, dtype=np.float64), np.asarray(projection, dtype=np.float64),
        np.asarray(eigenvalue, dtype=np.float64), f.number("energy_kept", 0, 1.001),
    )  # fmt: skip


def write(path: Path, fitted: Whitening, **attributes: str | float) -> None:
    """A file of kind whitening: mean, projection, eigenvalue in float64."""
    store.write(
        path,
        "whitening",
        {
            "mean": fitted.mean, "projection": np.ascontiguousarray(fitted.projection),
            "eigenvalue": fitted.eigenvalue,
        },
        energy_kept=fitted.energy_kept,
        **attributes,
    )  # fmt: skip


def _spectrum(covariance: Array, floor: float) -> tuple[Array, Array]:
    """`spectrum` with the eigenvalues floored at `floor` of the largest."""
    values, vectors = spectrum(covariance)
    return np.maximum(values, floor * values[0]), vectors


def spectrum(covariance: Array) -> tuple[Array, Array]:
    """Eigenvalues, largest first, and eigenvectors as columns.

    The sign of each vector is fixed by its largest entry, so that equal inputs give equal files.
    """
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = np.abs(vectors).argmax(0)
    return values, vectors * np.sign(vectors[largest, np.arange(len(values))])
