"""Leave-one-out retrieval of stored rows: a seeded sample in two halves, and its mean precision.

What is searched for is a *unit*: a group of images or, where there are no groups, one image. An
*item* is what must differ between a query and its positive: the image, or the view. Rows of one
item are neither positive nor negative for each other.
"""

from dataclasses import dataclass

import numpy as np

from .whitening import Array

FEWEST = 8  # units in a half below which a mean over them says nothing
# Items of a unit and rows of an item that are kept, tried in turn until the rows fit the bound.
CAPS = ((8, 4), (6, 3), (4, 2), (3, 2), (2, 1))


@dataclass(frozen=True)
class Sample:
    """Rows of the descriptors, in runs of one `unit`; all (n,) int64, `unit` ascending from 0."""

    row: Array
    unit: Array
    item: Array

    def take(self, index: Array) -> "Sample":
        """The rows at `index`, ascending."""
        unit = np.unique(self.unit[index], return_inverse=True)[1]
        return Sample(self.row[index], unit, self.item[index])


def units(group: Array, image: Array) -> tuple[Array, Array, str]:
    """(unit, item) of each row and what a unit is: `groups`, `images`, or `` for neither.

    `group` (m,), -1 for none, and `image` (m,) are those of each row. Groups are used where enough
    of them show two images or more; else images with two views or more are.
    """
    for unit, item, name in ((group, image, "groups"), (image, np.arange(len(image)), "images")):
        if _queries(unit, item) >= 2 * FEWEST:
            return unit, item, name
    return np.full(len(image), -1), image, ""


def halves(unit: Array, item: Array, *, bound: int, seed: int) -> tuple[Sample, Sample]:
    """Two samples of different units, drawn by `seed`, of `bound` rows at most each."""
    rng = np.random.default_rng(seed)
    inside = np.flatnonzero(unit >= 0)
    ids, number = np.unique(unit[inside], return_inverse=True)  # ids may be as large as int32 goes
    first, second = np.array_split(rng.permutation(len(ids)), 2)

    def drawn(chosen: Array) -> Sample:
        """The rows of the units `chosen`, in that order, the items of a unit in a drawn one."""
        place = np.full(len(ids), -1)
        place[chosen[:bound]] = np.arange(len(chosen[:bound]))
        taken = place[number] >= 0
        row, order = inside[taken], place[number[taken]]
        items, of_row = np.unique(item[row], return_inverse=True)
        key = rng.permutation(len(items))[of_row]
        sort = np.lexsort((row, key, order))
        return bounded(Sample(row[sort], order[sort], item[row[sort]]), bound)

    return drawn(first), drawn(second)


def bounded(sample: Sample, bound: int) -> Sample:
    """At most `bound` rows: fewer items of a unit and rows of an item first, then fewer units."""
    unit, item = sample.unit, sample.item
    keep = np.ones(len(unit), dtype=bool)
    for items, rows in CAPS:
        if keep.sum() <= bound:
            break
        new_item = np.r_[True, (np.diff(item) != 0) | (np.diff(unit) != 0)]
        new_unit = np.r_[True, np.diff(unit) != 0]
        number = np.cumsum(new_item) - 1
        of_unit = number - _at_start(number, new_unit)  # which item of its unit
        of_item = np.arange(len(unit)) - _at_start(np.arange(len(unit)), new_item)
        keep = (of_unit < items) & (of_item < rows)
    index = np.flatnonzero(keep)
    if len(index) > bound:
        index = index[unit[index] < unit[index[bound]]]  # whole units only
    return sample.take(index)


class LeaveOneOut:
    """Mean average precision when rows of a sample are queries for the others of their unit.

    One row of an item is a query (`query`, at most `queries`), all rows are searched. Each unit
    counts the same. A negative as similar as a positive stands before it. Memory: one copy of the
    (queries, n) similarities.
    """

    def __init__(self, sample: Sample, queries: int) -> None:
        unit, item = sample.unit, sample.item
        first = np.r_[True, (np.diff(item) != 0) | (np.diff(unit) != 0)]
        firsts = Sample(np.flatnonzero(first), unit[first], item[first])
        self.query = bounded(firsts, queries).row
        starts = np.searchsorted(unit, unit[self.query])
        ends = np.searchsorted(unit, unit[self.query], side="right")
        columns = starts[:, None] + np.arange((ends - starts).max())
        inside = columns < ends[:, None]
        self._columns = np.where(inside, columns, starts[:, None])  # of the query's unit
        self._positive = inside & (item[self._columns] != item[self.query][:, None])
        self._count, self._unit = self._positive.sum(1), unit[self.query]
        self._rank = np.arange(1, columns.shape[1] + 1)

    def __call__(self, similarity: Array) -> float:
        """mAP in percent of (queries, n) `similarity`, which is spoilt."""
        wanted = np.take_along_axis(similarity, self._columns, axis=1)
        wanted[~self._positive] = -np.inf
        wanted = -np.sort(-wanted, axis=1)  # best first, padding last
        np.put_along_axis(similarity, self._columns, -np.inf, axis=1)  # what is left: negatives
        similarity.sort(axis=1)
        pairs = zip(similarity, wanted, strict=True)
        ahead = similarity.shape[1] - np.array([np.searchsorted(s, w) for s, w in pairs])
        precision = np.where(np.isfinite(wanted), self._rank / (self._rank + ahead), 0.0)
        has_positives = self._count > 0
        if not has_positives.any():
            return 0.0
        unit = self._unit[has_positives]
        sums = np.bincount(unit, precision.sum(1)[has_positives] / self._count[has_positives])
        counts = np.bincount(unit)
        return 100 * float((sums[counts > 0] / counts[counts > 0]).mean())


def _queries(unit: Array, item: Array) -> int:
    """How many units have two items or more."""
    inside = unit >= 0
    pairs = np.unique(np.stack([unit[inside], item[inside]], axis=1), axis=0)
    return int((np.unique(pairs[:, 0], return_counts=True)[1] > 1).sum())


def _at_start(values: Array, starts: Array) -> Array:
    """Of each element, the value at the start of its run."""
    return values[np.maximum.accumulate(np.where(starts, np.arange(len(values)), 0))]
