"""Scores against the benchmark's own rule, written here once more as slow loops."""

import math
from typing import Any

import numpy as np
import pytest

from stages.retrieval import metrics, score_table

Ranking = list[int]
RULES = {
    "revisitop": {
        "easy": (["easy"], ["junk", "hard"]),
        "medium": (["easy", "hard"], ["junk"]),
        "hard": (["hard"], ["junk", "easy"]),
    },
    "positives": {"all": (["positive"], ["junk"])},
}


def official(rankings: list[Ranking], truth: list[dict[str, set[int]]]) -> dict[str, float] | None:
    """compute_map of revisitop, query by query, from whole rankings; plus recall@k.

    `truth`: {"ok", "junk"} as sets of database rows. None where no query has a positive.
    """
    aps, precisions, recalls = [], [], []
    for ranking, gnd in zip(rankings, truth, strict=True):
        if not gnd["ok"]:
            continue
        positions, position = [], 0  # of the positives, 0-based, junk passed over
        for row in ranking:
            if row in gnd["junk"]:
                continue
            if row in gnd["ok"]:
                positions.append(position)
            position += 1
        ap = 0.0
        for j, r in enumerate(positions):
            before = 1.0 if r == 0 else j / r
            ap += (before + (j + 1) / (r + 1)) / (2 * len(positions))
        aps.append(ap)
        one_based = [p + 1 for p in positions]
        row_p, row_r = [], []
        for k in (1, 5, 10):
            depth = min(max(one_based), k)
            row_p.append(sum(p <= depth for p in one_based) / depth)
            row_r.append(float(any(p <= k for p in one_based)))
        precisions.append(row_p)
        recalls.append(row_r)
    if not aps:
        return None
    out = {"map": sum(aps) / len(aps)}
    for i, k in enumerate((1, 5, 10)):
        out[f"mp@{k}"] = sum(p[i] for p in precisions) / len(precisions)
        out[f"recall@{k}"] = sum(r[i] for r in recalls) / len(recalls)
    return {key: 100 * value for key, value in out.items()}


def world(seed: int, protocol: str) -> tuple[list[Ranking], list[dict[str, list[int]]]]:
    """Random rankings of a database and random answers by kind, some kinds empty."""
    rng = np.random.default_rng(seed)
    n, kinds = (
        int(rng.integers(3, 60)),
        sorted({k for r in RULES[protocol].values() for k in r[0] + r[1]}),
    )
    rankings, answers = [], []
    for _ in range(8):
        rankings.append(rng.permutation(n).tolist())
        rows = rng.permutation(n)
        cut = np.sort(rng.integers(0, min(n, 15) + 1, len(kinds)))
        parts = np.split(rows[: cut[-1]], cut[:-1])
        answers.append({k: p.tolist() for k, p in zip(kinds, parts, strict=True)})
    return rankings, answers


def ranks_by(rankings: list[Ranking], answers: list[dict[str, list[int]]]) -> list[dict[str, Any]]:
    """0-based ranks of each kind, in the order the rows are listed: what `rank.ranks` gives."""
    return [
        {k: np.array([order.index(i) for i in rows], dtype=np.int64) for k, rows in a.items()}
        for order, a in zip(rankings, answers, strict=True)
    ]


@pytest.mark.parametrize("protocol", ["revisitop", "positives"])
@pytest.mark.parametrize("seed", range(15))
def test_all_scores_are_the_official_ones(seed: int, protocol: str) -> None:
    rankings, answers = world(seed, protocol)
    found = metrics.all_scores(ranks_by(rankings, answers), protocol)
    for difficulty, (ok, junk) in RULES[protocol].items():
        truth = [
            {"ok": {i for k in ok for i in a[k]}, "junk": {i for k in junk for i in a[k]}}
            for a in answers
        ]
        wanted = official(rankings, truth)
        if wanted is None:
            assert difficulty not in found
            continue
        assert set(found[difficulty]) == set(wanted)
        for key, value in wanted.items():
            assert found[difficulty][key] == pytest.approx(value, abs=5.1e-5), key  # 4 digits kept
        exact = [
            metrics.average_precision(r)
            for r in metrics.of_difficulty(ranks_by(rankings, answers), protocol, difficulty)
            if len(r)
        ]
        assert 100 * float(np.mean(exact)) == pytest.approx(wanted["map"], abs=1e-6)


def test_positives_first_and_third() -> None:
    """(1 + 1) / 4 + (1/2 + 2/3) / 4: the trapezoids of the benchmark, not the plain mean 5/6."""
    assert metrics.average_precision(np.array([0, 2])) == pytest.approx(0.5 + 7 / 24)
    assert round(metrics.average_precision(np.array([0, 2])), 4) == 0.7917


@pytest.mark.parametrize(
    ("ranks", "wanted"),
    # the last: (0/1 + 1/2) / 4 + (1/2 + 2/3) / 4
    [([0], 1), ([0, 1, 2], 1), ([1], 0.25), ([9], 0.05), ([1, 2], 10 / 24)],
)
def test_average_precision_by_hand(ranks: list[int], wanted: float) -> None:
    assert metrics.average_precision(np.array(ranks)) == pytest.approx(wanted)


def test_junk_is_taken_out_before_ranks_are_counted() -> None:
    found = metrics.without_junk(np.array([8, 2, 5]), np.array([7, 0, 3, 4]))
    assert found.tolist() == [1, 2, 4]
    assert metrics.without_junk(np.array([3, 1]), np.array([], dtype=np.int64)).tolist() == [1, 3]
    assert metrics.without_junk(np.array([], dtype=np.int64), np.array([1])).tolist() == []


def test_precision_where_the_last_positive_comes_before_k() -> None:
    ranks = np.array([0, 2])
    assert metrics.precision_at(ranks, 1) == 1
    assert metrics.precision_at(ranks, 10) == pytest.approx(2 / 3)  # depth 3, not 10
    assert metrics.precision_at(np.array([0, 11]), 10) == pytest.approx(1 / 10)
    assert metrics.precision_at(np.array([4]), 1) == 0


def test_queries_without_positives_do_not_count() -> None:
    empty = np.array([], dtype=np.int64)
    query = {"easy": empty, "hard": np.array([0]), "junk": empty}
    other = {"easy": np.array([1]), "hard": empty, "junk": np.array([0])}
    found = metrics.all_scores([query, other], "revisitop")
    assert found["easy"]["map"] == 100  # the second query alone: its junk is gone
    assert found["hard"]["map"] == 100  # the first alone
    assert found["medium"]["map"] == 100
    assert metrics.all_scores([query], "revisitop").keys() == {"medium", "hard"}
    assert metrics.scores([empty]) == {}


def test_recall_is_the_share_of_queries_with_a_positive_in_the_top() -> None:
    ranks = [np.array([0, 50]), np.array([4]), np.array([5, 6]), np.array([10])]
    found = metrics.scores(ranks)
    assert (found["recall@1"], found["recall@5"], found["recall@10"]) == (25, 50, 75)


def test_per_query_scores_average_to_the_map() -> None:
    rankings, answers = world(3, "revisitop")
    ranks = ranks_by(rankings, answers)
    for difficulty, values in metrics.per_query(ranks, "revisitop").items():
        assert len(values) == len(ranks)
        asked = [v for v in values if not math.isnan(v)]
        if asked:
            wanted = metrics.all_scores(ranks, "revisitop")[difficulty]["map"]
            assert float(np.mean(asked)) == pytest.approx(wanted, abs=1e-4)


def test_labels_of_a_nested_result() -> None:
    nested = {"student": {"all": {"map": 1.0}}, "a": {"raw": {"all": 2}, "whitened": {"all": 3}}}
    assert score_table.flat(nested) == {
        "student": {"all": {"map": 1.0}}, "a raw": {"all": 2}, "a whitened": {"all": 3},
    }  # fmt: skip


def test_the_interval_of_a_mean_has_the_textbook_width() -> None:
    values = np.random.default_rng(0).normal(50, 20, 400)
    low, high = metrics.bootstrap(values, draws=4000)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)
    assert metrics.bootstrap(values, seed=1) == metrics.bootstrap(values, seed=1)
    assert metrics.bootstrap(np.full(5, 3.0)) == (3, 3)


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
        assert metrics.top_precision(places, top) == pytest.approx(
            slow_ap(right.tolist(), top, None)
        )
        every = metrics.top_precision(places, top, len(places))
        assert every == pytest.approx(slow_ap(right.tolist(), top, len(places)))


def test_svd_by_hand_in_both_conventions() -> None:
    """Hits at ranks 1, 3 and 200 of three positives, and a query that finds none in its 100."""
    ranks = [
        {"positive": np.array([199, 0, 2]), "negative": np.array([1])},
        {"positive": np.array([150]), "negative": np.array([], dtype=np.int64)},
        {"positive": np.array([], dtype=np.int64), "negative": np.array([0])},  # asks nothing
    ]
    found = metrics.all_scores(ranks, "svd")
    one = (1 + 2 / 3) / 2
    assert found["top-100"]["map"] == pytest.approx(100 * (one + 0) / 2, abs=1e-3)
    assert found["top-100"]["map_of_all"] == pytest.approx(100 * (1 + 2 / 3) / 3 / 2, abs=1e-3)
    inf = ((1 + 2 / 3 + 3 / 200) / 3 + 1 / 151) / 2
    assert found["top-inf"]["map"] == pytest.approx(100 * inf, abs=1e-3)
    assert found["top-inf"]["map_of_all"] == found["top-inf"]["map"]
    assert found["top-inf"]["recall@1"] == 50
    aps = metrics.per_query(ranks, "svd")
    assert aps["top-100"][0] == pytest.approx(100 * one) and np.isnan(aps["top-inf"][2])
