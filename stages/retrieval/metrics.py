"""Scores of a ranking, by the rules of ROxford/RParis: arrays of ranks in, numbers out.

Ranks are 0-based positions of a query's positives among the whole database, junk still in it.
"""

from collections.abc import Sequence

import numpy as np

Array = np.ndarray
KS = (1, 5, 10)
# Protocol -> difficulty -> (lists that count as positive, lists that are taken out first).
DIFFICULTIES: dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "revisitop": {
        "easy": (("easy",), ("junk", "hard")),
        "medium": (("easy", "hard"), ("junk",)),
        "hard": (("hard",), ("junk", "easy")),
    },
    "positives": {"all": (("positive",), ("junk",))},
    "svd": {"top-100": (("positive",), ()), "top-inf": (("positive",), ())},
}
TOP = {"top-100": 100, "top-inf": None}  # SVD's: results that count


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


def top_precision(ranks: Array, top: int | None, positives: int | None = None) -> float:
    """AP as SVD's authors compute it: the mean of the precisions at the positives, not smoothed.

    Of the first `top` results (None: all), over the positives found there, or over `positives`
    where given. Their formula divides by all positives, their tables by those found: with the
    formula no top-100 could be above its top-inf, and in the tables every one is.
    """
    found = ranks if top is None else ranks[ranks < top]
    precision = ((np.arange(len(found)) + 1) / (found + 1)).sum()
    return float(precision / max(len(found) if positives is None else positives, 1))


def precision_at(ranks: Array, k: int) -> float:
    """Share of positives among the first k, or among the first r where the last positive is
    at position r < k (the benchmark's rule)."""
    depth = min(k, int(ranks[-1]) + 1)
    return float((ranks < depth).sum() / depth)


def scores(ranks: Sequence[Array]) -> dict[str, float]:
    """Means over the queries that have positives, in percent: map, mp@k, recall@k.

    `ranks`: one sorted junk-free array a query. No query with positives: an empty map.
    """
    asked = [r for r in ranks if len(r)]
    if not asked:
        return {}
    out = {"map": _percent([average_precision(r) for r in asked])}
    for k in KS:
        out[f"mp@{k}"] = _percent([precision_at(r, k) for r in asked])
    for k in KS:
        out[f"recall@{k}"] = _percent([float(r[0] < k) for r in asked])
    return out


def top_scores(ranks: Sequence[Array], difficulty: str) -> dict[str, float]:
    """`scores` by SVD's rules: map, map_of_all (over all positives), mp@k, recall@k."""
    asked = [r for r in ranks if len(r)]
    top = TOP[difficulty]
    precise = {
        "map": _percent([top_precision(r, top) for r in asked]),
        "map_of_all": _percent([top_precision(r, top, len(r)) for r in asked]),
    }
    return {**scores(ranks), **precise} if asked else {}


def of_difficulty(ranks: Sequence[dict[str, Array]], protocol: str, difficulty: str) -> list[Array]:
    """Junk-free ranks of each query under one difficulty; `ranks` by kind of answer."""
    positive, junk = DIFFICULTIES[protocol][difficulty]
    return [
        without_junk(
            np.concatenate([q[kind] for kind in positive]),
            np.concatenate([q[k] for k in junk]) if junk else np.zeros(0, np.int64),
        )
        for q in ranks
    ]


def all_scores(ranks: Sequence[dict[str, Array]], protocol: str) -> dict[str, dict[str, float]]:
    """Scores of every difficulty of the protocol."""
    found = {}
    for d in DIFFICULTIES[protocol]:
        clean = of_difficulty(ranks, protocol, d)
        found[d] = top_scores(clean, d) if d in TOP else scores(clean)
    return {difficulty: values for difficulty, values in found.items() if values}


def per_query(ranks: Sequence[dict[str, Array]], protocol: str) -> dict[str, list[float]]:
    """AP of each query in percent by difficulty; nan where a query has no positive."""
    return {
        d: [
            100 * (top_precision(r, TOP[d]) if d in TOP else average_precision(r))
            if len(r)
            else float("nan")
            for r in of_difficulty(ranks, protocol, d)
        ]
        for d in DIFFICULTIES[protocol]
    }


def bootstrap(values: Array, *, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of `values` (n,) by resampling them."""
    rng = np.random.default_rng(seed)
    means = np.asarray(values)[rng.integers(len(values), size=(draws, len(values)))].mean(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def _percent(values: Sequence[float]) -> float:
    return round(100 * float(np.mean(values)), 4)
