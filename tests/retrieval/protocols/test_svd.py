"""SVD's average precision in both conventions, against the ranked list and by hand."""

import numpy as np
import pytest

from stages.retrieval import protocols
from stages.retrieval.protocols import svd


def slow_ap(right: list[bool], top: int | None, over: int | None) -> float:
    """SVD's average precision, from the ranked list itself."""
    hits, total = 0, 0.0
    for place, good in enumerate(right[:top], 1):
        if good:
            hits += 1
            total += hits / place
    return total / max(over or hits, 1)


@pytest.mark.parametrize("seed", range(5))
def test_svd_precision_against_the_list(seed: int) -> None:
    right = np.random.default_rng(seed).random(300) < (0.02, 0.2, 0.9, 0.005, 0.5)[seed]
    places = np.flatnonzero(right)
    for top in (None, 100, 10):
        assert svd.average_precision(places, top) == pytest.approx(
            slow_ap(right.tolist(), top, None)
        )
        every = svd.average_precision(places, top, len(places))
        assert every == pytest.approx(slow_ap(right.tolist(), top, len(places)))


def test_svd_by_hand_in_both_conventions() -> None:
    """Hits at ranks 1, 3 and 200 of three positives, and a query that finds none in its 100."""
    ranks = [
        {"positive": np.array([199, 0, 2]), "negative": np.array([1])},
        {"positive": np.array([150]), "negative": np.array([], dtype=np.int64)},
        {"positive": np.array([], dtype=np.int64), "negative": np.array([0])},  # does not count
    ]
    found = protocols.load("svd").all_scores(ranks)
    one = (1 + 2 / 3) / 2
    assert found["top-100"]["map"] == pytest.approx(100 * (one + 0) / 2, abs=1e-3)
    assert found["top-100"]["map_of_all"] == pytest.approx(100 * (1 + 2 / 3) / 3 / 2, abs=1e-3)
    inf = ((1 + 2 / 3 + 3 / 200) / 3 + 1 / 151) / 2
    assert found["top-inf"]["map"] == pytest.approx(100 * inf, abs=1e-3)
    assert found["top-inf"]["map_of_all"] == found["top-inf"]["map"]
    assert found["top-inf"]["recall@1"] == 50
    aps = protocols.load("svd").per_query(ranks)
    assert aps["top-100"][0] == pytest.approx(100 * one) and np.isnan(aps["top-inf"][2])
