"""SVD (Jiang et al., ICCV 2019): near-duplicates among what is labelled for a query and all videos
that are not labelled. What is labelled for another query was never compared with this one.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from .. import metrics
from . import Difficulty, Protocol

Array = np.ndarray


def average_precision(ranks: Array, top: int | None, positives: int | None = None) -> float:
    """AP as SVD's authors compute it: the mean of the precisions at the positives, not smoothed.

    Of the first `top` results (None: all), over the positives among them, or over `positives`
    where given. Their formula divides by all positives, their tables by those in the top: with the
    formula no top-100 could be above its top-inf, and in the tables every one is.
    """
    counted = ranks if top is None else ranks[ranks < top]
    precision = ((np.arange(len(counted)) + 1) / (counted + 1)).sum()
    return float(precision / max(len(counted) if positives is None else positives, 1))


def scores(ranks: Sequence[Array], top: int | None) -> dict[str, float]:
    """`metrics.scores` with SVD's AP: map, map_of_all (over all positives), mp@k, recall@k."""
    counted = [r for r in ranks if len(r)]
    if not counted:
        return {}
    return {
        **metrics.scores(ranks),
        "map": metrics.percent([average_precision(r, top) for r in counted]),
        "map_of_all": metrics.percent([average_precision(r, top, len(r)) for r in counted]),
    }


def _top(count: int | None) -> Difficulty:
    """The first `count` results count, None: all."""
    return Difficulty(
        positive=("positive",),
        average_precision=partial(average_precision, top=count),
        scores=partial(scores, top=count),
    )


PROTOCOL = Protocol(
    lists=("positive", "negative"),
    difficulties={"top-100": _top(100), "top-inf": _top(None)},
    main="top-100",
    masked=True,
)
