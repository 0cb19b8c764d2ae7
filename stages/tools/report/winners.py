"""Which teacher decides the fused targets: the most and the least confident one of each pair."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Winners:
    """(T,) shares of 1 and means: positives a teacher is the highest for, negatives it is the
    lowest for, its mean similarity of positives and of negatives; the numbers of both."""

    highest: Array
    lowest: Array
    positive: Array
    negative: Array
    positives: int
    negatives: int


def count(batches: Iterable[Array]) -> Winners:
    """Of (T, N, N) similarities of batches, positives on the diagonal. Ties go to the first."""
    highest = lowest = positive = negative = np.zeros(0)
    positives = negatives = 0
    for sims in batches:
        teachers, n, _ = sims.shape
        if not positives:
            highest, lowest, positive, negative = np.zeros((4, teachers))
        diagonal = sims[:, np.arange(n), np.arange(n)]
        others = sims[:, ~np.eye(n, dtype=bool)]
        highest += np.bincount(diagonal.argmax(0), minlength=teachers)
        lowest += np.bincount(others.argmin(0), minlength=teachers)
        positive += diagonal.sum(1, dtype=np.float64)
        negative += others.sum(1, dtype=np.float64)
        positives, negatives = positives + n, negatives + n * (n - 1)
    p, m = max(positives, 1), max(negatives, 1)
    return Winners(highest / p, lowest / m, positive / p, negative / m, positives, negatives)
