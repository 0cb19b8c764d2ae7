"""Which suspicions are clear, and whether the teachers know these images well enough to vote.

A part that does not belong to its group is clear where every teacher sees it nearest to the same
other group, and that near as a typical image is to its own; or where it is a thing of its own:
several images that near to each other. Two groups are clearly one where they are nearer to each
other than most images are to their own group. Near is meant on average over the teachers.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ...core.errors import UserError
from ...retrieval import rank
from . import votes

Array = np.ndarray
LEAST_MAP = 40.0  # of the best teacher: below it most of what teachers say of labels is wrong
QUERIES = 1000  # images that ask, at most, to measure a teacher
TYPICAL = 0.4  # quantile of how near images are to their own group
NEARER = 0.7  # the same, for two groups that are said to be one: near-twins reach the typical
LEAST_PART = 3  # images of a part that is a thing of its own


class Fit:
    """How near images are to groups, by each teacher; `rows` of (n, d), `group` (n,), -1: none."""

    def __init__(self, rows: Sequence[Array], group: Array) -> None:
        self.rows, self.group = rows, group
        self.numbers, self.place = np.unique(group, return_inverse=True)
        self.count = np.bincount(self.place)
        self.homes = (self.count > 1) & (self.numbers >= 0)
        self.sums = [_sums(r, self.place, len(self.numbers)) for r in rows]

    @cached_property
    def own(self) -> list[Array]:
        """By teacher: mean similarity of each image to the others of its group."""
        among = np.flatnonzero(self.homes[self.place])
        return [
            (_dots(r, s, among, self.place[among]) - 1) / (self.count[self.place[among]] - 1)
            for r, s in zip(self.rows, self.sums, strict=True)
        ]

    def part_is_clear(self, part: Array, rest: Array) -> bool:
        """Whether `part` (rows) of the group of `rest` (rows) belongs elsewhere, or nowhere."""
        near, homes = [], set()
        for rows, sums in zip(self.rows, self.sums, strict=True):
            own = (sums @ rows[part].astype(np.float32).mean(0)) / self.count
            own[~self.homes] = own[self.place[rest[0]]] = -1.0
            near.append(float(own.max()))
            homes.add(int(own.argmax()))
        if len(homes) == 1 and self._reach(near, TYPICAL):
            return True
        if len(part) < LEAST_PART:
            return False
        a, b = np.triu_indices(len(part), 1)
        return self._reach(self._between(part[a], part[b]), TYPICAL)

    def same_is_clear(self, left: Array, right: Array) -> bool:
        """Whether two groups (rows) are one thing."""
        pairs = np.repeat(left, len(right)), np.tile(right, len(left))
        return self._reach(self._between(*pairs), NEARER)

    def _between(self, a: Array, b: Array) -> list[float]:
        """By teacher: mean similarity of pairs of images."""
        return [float(votes.of_pairs(rows, a, b).mean()) for rows in self.rows]

    def _reach(self, near: list[float], quantile: float) -> bool:
        """Whether similarities reach, on average over teachers, that quantile of their own."""
        gaps = [n - np.quantile(own, quantile) for n, own in zip(near, self.own, strict=True)]
        return bool(np.mean(gaps) >= 0)


def leave_one_out(rows: Array, group: Array, seed: int) -> float:
    """mAP in percent: images whose group has others ask for them among all (n, d) `rows`."""
    numbers, place = np.unique(group, return_inverse=True)
    asks = np.flatnonzero((np.bincount(place)[place] > 1) & (group >= 0))
    asks = np.sort(np.random.default_rng(seed).permutation(asks)[:QUERIES])
    scores: list[float] = []
    for first, sims in rank.similarities(rows[asks], rows):
        for query, own in zip(asks[first : first + len(sims)], sims, strict=True):
            own[query] = -np.inf
            right = np.flatnonzero(group == group[query])
            ranks = np.sort(rank.ranks_of(own, right[right != query]))
            scores.append(float((np.arange(1, len(ranks) + 1) / (ranks + 1)).mean()))
    return 100 * float(np.mean(scores)) if scores else 0.0


def refuse_weak(measured: dict[str, float]) -> None:
    """Raise UserError where no teacher knows these images by their labels."""
    if max(measured.values()) < LEAST_MAP:
        raise UserError(
            f"the teachers do not know these images: {in_words(measured)}; below {LEAST_MAP:g} "
            "most of what they say of labels is wrong. Name better ones (--teacher), or --anyway"
        )


def in_words(measured: dict[str, float]) -> str:
    """Each teacher's mAP on the labels."""
    own = ", ".join(f"{name} {value:.1f}" for name, value in measured.items())
    return f"leave-one-out mAP on the labels {own}"


def _sums(rows: Array, place: Array, groups: int) -> Array:
    """(groups, d) float32: sums of the rows of each group, some rows at a time."""
    out = np.zeros((groups, rows.shape[1]), dtype=np.float32)
    for first in range(0, len(rows), votes.BLOCK_ROWS):
        part = slice(first, first + votes.BLOCK_ROWS)
        np.add.at(out, place[part], rows[part].astype(np.float32))
    return out


def _dots(rows: Array, sums: Array, of: Array, place: Array) -> Array:
    """(p,) products of the rows `of` with the sums at `place`, some at a time."""
    step = votes.BLOCK_ROWS
    return np.concatenate([np.zeros(0, np.float32), *(
        np.einsum("pd,pd->p", rows[of[i : i + step]].astype(np.float32), sums[place[i : i + step]])
        for i in range(0, len(of), step)
    )])  # fmt: skip
