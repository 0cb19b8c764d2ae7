"""Which whitening: method, dimensions, exponent and shrinkage, by retrieval on what was left out.

The training groups are halved by seed. A whitening fitted on one half ranks the stored views of the
other, one view of an image as the query, and the other way round. No whitening at all (`none`) is
among the candidates. Taken is the best mean of both halves. Nothing is fitted twice: a prefix of
whitened coordinates is the smaller whitening, so similarities are summed along the dimensions; the
powers of one spectrum are all exponents; the within-group covariance shrunk towards the identity
keeps its eigenvectors, so that one decomposition of it serves every shrinkage.

Bounds, whatever the size of the training set: a half is fitted on at most FIT_ROWS rows and scored
on at most SCORED_ROWS, with QUERIES queries, drawn by seed. Of width d that is 16 FIT_ROWS d +
8 QUERIES SCORED_ROWS + 48 d^2 bytes: 1 GB at d = 2048. Time: two d x d decompositions a half and
one more a shrinkage, and QUERIES x SCORED_ROWS x d products an exponent or shrinkage: seconds at
the demo's size, minutes at most.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from . import learned_whitening, leave_one_out, whitening
from .leave_one_out import LeaveOneOut, Sample
from .whitening import Array

Auto = Literal["auto"]
Method = Literal["none", "pca", "learned"]
EXPONENTS = (0.0, 0.25, 0.5)
SHRINKAGES = (0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
SMALLEST = 8  # dimensions that are tried first
FIT_ROWS = 20_000
SCORED_ROWS = 4_000
QUERIES = 1_000
BLOCK_ROWS = 4_096


@dataclass(frozen=True)
class Knobs:
    """What params.yaml says; `auto` is what may be chosen."""

    method: Literal["auto", "none", "pca", "learned"]
    dim: int | Auto
    exponent: float | Auto
    shrinkage: float | Auto
    floor: float

    @property
    def free(self) -> bool:
        """Whether anything is left to choose."""
        own = {"pca": [self.exponent], "learned": [self.shrinkage]}.get(self.method, [])
        return self.method == "auto" or (self.method != "none" and "auto" in (self.dim, *own))


@dataclass(frozen=True, order=True)
class Candidate:
    """One whitening; what the method does not use is 0."""

    method: Method
    dim: int
    exponent: float
    shrinkage: float

    def __str__(self) -> str:
        if self.method == "none":
            return "none (as they are)"
        of = {"pca": f"exponent {self.exponent:g}", "learned": f"shrinkage {self.shrinkage:g}"}
        return f"{self.method}, {self.dim} dimensions, {of[self.method]}"


@dataclass(frozen=True)
class Choice:
    """`taken`, and the mean score (mAP in percent) of every candidate; `by`: groups or images."""

    taken: Candidate
    scores: dict[Candidate, float]
    by: str


def dims(own: int) -> tuple[int, ...]:
    """The dimensions tried for a teacher of `own`: powers of two, one and a half of them, all."""
    powers = [SMALLEST * 2**k for k in range(own.bit_length())]
    return tuple(sorted({d for p in powers for d in (p, p * 3 // 2) if d < own} | {own}))


def choose(descriptor: Array, group: Array, image: Array, knobs: Knobs, *, seed: int) -> Choice:
    """The best candidate for (m, d) unit rows that `knobs` allow.

    `group` (m,), -1 for none, and `image` (m,), ascending, are those of each row. Without enough
    groups two views of an image are the pair, and learned whitening is no candidate. Where nothing
    can be measured, `none` is taken with a score for nothing, or what the fixed knobs leave.
    """
    unit, item, by = leave_one_out.units(group, image)
    own = descriptor.shape[1]
    if not by:
        return Choice(unmeasured(knobs, own), {}, by)
    sides = leave_one_out.halves(unit, item, bound=FIT_ROWS, seed=seed)
    free = np.flatnonzero(group < 0) if by == "groups" else np.zeros(0, dtype=np.int64)
    free = np.random.default_rng(seed).permutation(free)[:FIT_ROWS]
    scores: dict[Candidate, float] = {}
    for fit, scored in (sides, sides[::-1]):
        half = Half.read(descriptor, fit, np.sort(free[: FIT_ROWS - len(fit.row)]), by)
        for candidate, score in half.scores(descriptor, scored, knobs):
            scores[candidate] = scores.get(candidate, 0.0) + score / 2
    return Choice(best(scores), scores, by)


def best(scores: dict[Candidate, float]) -> Candidate:
    """The highest score; of equal ones the simplest: none before pca before learned, then small."""
    rank = {"none": 0, "pca": 1, "learned": 2}
    return min(scores, key=lambda c: (-scores[c], rank[c.method], c.dim, c))


@dataclass(frozen=True)
class Half:
    """What is fitted on one half: the moments of its rows and their scatter within groups."""

    total: whitening.Moments
    within: Array | None

    @classmethod
    def read(cls, descriptor: Array, fit: Sample, free: Array, by: str) -> "Half":
        """Of the sampled rows and, for the total covariance alone, of `free` rows too."""
        x = _rows(descriptor, fit)
        blocks = (x[i : i + BLOCK_ROWS] for i in range(0, len(x), BLOCK_ROWS))
        total = whitening.moments([*blocks, np.asarray(descriptor[free])], x.shape[1])
        within = None
        if by == "groups":
            within = learned_whitening.within_all(x, fit.unit, fit.item)
        return cls(total, within)

    def scores(
        self, descriptor: Array, sample: Sample, knobs: Knobs
    ) -> Iterator[tuple[Candidate, float]]:
        """Every candidate that `knobs` allow, on the other half's `sample`."""
        sample = leave_one_out.bounded(sample, SCORED_ROWS)
        x = _rows(descriptor, sample)
        ranking, own = LeaveOneOut(sample, QUERIES), x.shape[1]
        sizes = dims(own) if knobs.dim == "auto" else (knobs.dim,)
        if knobs.method == "auto" and knobs.dim in ("auto", own):
            yield Candidate("none", own, 0.0, 0.0), next(prefixes(x, (own,), ranking))
        x = x - self.total.mean
        if knobs.method in ("auto", "pca"):
            exponents = EXPONENTS if knobs.exponent == "auto" else (knobs.exponent,)
            for e, y in self._pca(x, exponents, knobs.floor):
                for d, score in zip(sizes, prefixes(y, sizes, ranking), strict=True):
                    yield Candidate("pca", d, e, 0.0), score
        if knobs.method in ("auto", "learned") and self.within is not None:
            shrinkages = SHRINKAGES if knobs.shrinkage == "auto" else (knobs.shrinkage,)
            for s, y in self._learned(x, shrinkages, knobs.floor):
                for d, score in zip(sizes, prefixes(y, sizes, ranking), strict=True):
                    yield Candidate("learned", d, 0.0, s), score

    def _pca(
        self, x: Array, exponents: Iterable[float], floor: float
    ) -> Iterator[tuple[float, Array]]:
        """(exponent, centred rows `x` whitened to their own width)."""
        values, vectors = whitening.spectrum(self.total.covariance)
        values = np.maximum(values, floor * values[0])
        turned = x @ vectors
        for e in exponents:
            yield e, turned * values**-e

    def _learned(
        self, x: Array, shrinkages: Iterable[float], floor: float
    ) -> Iterator[tuple[float, Array]]:
        """(shrinkage, centred rows `x` whitened to their own width)."""
        assert self.within is not None
        values, vectors = whitening.spectrum(self.within)
        turned = x @ vectors
        total = vectors.T @ self.total.covariance @ vectors
        for s in shrinkages:
            shrunk = (1 - s) * values + s * values.mean()
            scale = np.maximum(shrunk, floor * shrunk[0]) ** -0.5
            _, kept = whitening.spectrum(scale[:, None] * total * scale)
            yield s, turned @ (scale[:, None] * kept)


def prefixes(y: Array, sizes: Iterable[int], ranking: LeaveOneOut) -> Iterator[float]:
    """The score of the first d columns of (n, D) `y` for each d of `sizes`, ascending."""
    y = y.astype(np.float32)
    products = np.zeros((len(ranking.query), len(y)), dtype=np.float32)
    length = np.zeros(len(y), dtype=np.float32)
    for a, b in pairwise((0, *sizes)):
        block = y[:, a:b]
        products += block[ranking.query] @ block.T
        length += (block * block).sum(1)
        # A query's own length does not move its ranking.
        yield ranking(products / np.sqrt(np.maximum(length, 1e-24)))


def _rows(descriptor: Array, sample: Sample) -> Array:
    """(n, d) float64 in the sample's order, read in the file's."""
    order = np.argsort(sample.row)
    x = np.empty((len(order), descriptor.shape[1]))
    x[order] = descriptor[sample.row[order]]
    return x


def leaders(choice: Choice) -> list[tuple[Candidate, float]]:
    """The best candidate of each method, best first, for people to read."""
    scores = choice.scores
    methods = sorted({c.method for c in scores})
    bests = [best({c: s for c, s in scores.items() if c.method == m}) for m in methods]
    return sorted(((c, scores[c]) for c in bests), key=lambda cs: -cs[1])


def unmeasured(knobs: Knobs, own: int) -> Candidate:
    """What fixed knobs say; of what is `auto` the plainest, where nothing can be ranked."""
    method: Method = "none" if knobs.method == "auto" else knobs.method
    if method == "none":
        return Candidate("none", own, 0.0, 0.0)
    dim = own if knobs.dim == "auto" else knobs.dim
    exponent = 0.0 if knobs.exponent == "auto" else knobs.exponent
    shrinkage = 1.0 if knobs.shrinkage == "auto" else knobs.shrinkage
    if method == "pca":
        return Candidate("pca", dim, exponent, 0.0)
    return Candidate("learned", dim, 0.0, shrinkage)
