"""Scores of a ranking, by the rules of ROxford/RParis: arrays of ranks in, numbers out.

Ranks are 0-based positions of a query's positives among the whole database, junk still in it.
"""

from collections.abc import Sequence

import numpy as np

Array = np.ndarray
KS = (1, 5, 10)


def without_junk(positive: Array, junk: Array) -> Array:
    """Sorted ranks of the positives once the junk is taken out of the ranking."""
    positive = np.sort(np.asarray(positive, dtype=np.int64))
    return positive - np.searchsorted(np.sort(junk), positive)


def average_precision(ranks: Array) -> float:
    """Area under precision over recall by trapezoids, the benchmark's own rule.

    `ranks`: sorted, 0-based, all positives of the query. For the j-th of P at rank r the step is
    (j / r + (j + 1) / (r + 1)) / 2P, the first term 1 at rank 0.
    """
    j = np.arange(len(ranks))
    before = np.where(ranks == 0, 1.0, j / np.maximum(ranks, 1))
    return float((before + (j + 1) / (ranks + 1)).sum() / (2 * len(ranks)))


def precision_at(ranks: Array, k: int) -> float:
    """Share of positives among the first k, or among the first r where the last positive is
    at position r < k (the benchmark's rule)."""
    depth = min(k, int(ranks[-1]) + 1)
    return float((ranks < depth).sum() / depth)


def scores(ranks: Sequence[Array]) -> dict[str, float]:
    """Means over the queries that have positives, in percent: map, mp@k, recall@k.

    `ranks`: one sorted junk-free array a query. No query with positives: an empty map.
    """
    counted = [r for r in ranks if len(r)]
    if not counted:
        return {}
    out = {"map": percent([average_precision(r) for r in counted])}
    for k in KS:
        out[f"mp@{k}"] = percent([precision_at(r, k) for r in counted])
    for k in KS:
        out[f"recall@{k}"] = percent([float(r[0] < k) for r in counted])
    return out


def bootstrap(values: Array, *, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of `values` (n,) by resampling them."""
    rng = np.random.default_rng(seed)
    means = np.asarray(values)[rng.integers(len(values), size=(draws, len(values)))].mean(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def group_error(values: Array, group: Array, *, draws: int = 1000, seed: int = 0) -> float:
    """Standard error of the mean of `values` (n,) by resampling whole groups (`group` (n,)).

    What lies in one group (the queries of one thing) rises and falls together. The bootstrap's
    variance is that of G groups divided by G, not G - 1, which is made good. Infinite for less than
    two groups.
    """
    ids, inverse = np.unique(group, return_inverse=True)
    if len(ids) < 2:
        return float("inf")
    total, count = np.bincount(inverse, values), np.bincount(inverse)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=draws)
    means = (times @ total) / (times @ count)
    return float(means.std() * np.sqrt(len(ids) / (len(ids) - 1)))


def percent(values: Sequence[float]) -> float:
    """The mean of `values`, 0 to 1, in percent: four digits are kept."""
    return round(100 * float(np.mean(values)), 4)
