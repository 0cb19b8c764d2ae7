"""Ranks and scores against a full sort and the benchmark's rules written out as loops."""

import numpy as np
import pytest

from stages.images import rendering
from stages.retrieval import metrics, protocols, rank


def slow_ranks(sims: np.ndarray) -> np.ndarray:
    order = np.lexsort((np.arange(len(sims)), -sims))
    place = np.empty(len(sims), int)
    place[order] = np.arange(len(sims))
    return place


@pytest.mark.parametrize(("n", "levels"), [(1, 1), (30, 3), (500, 40), (2000, 100000)])
def test_ranks_equal_a_full_sort_with_ties_by_row(n: int, levels: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(20):
        sims = (rng.integers(0, levels, n) / levels).astype(np.float32)
        wanted = rng.permutation(n)[: max(n // 4, 1)]
        assert np.array_equal(rank.ranks_of(sims, wanted), slow_ranks(sims)[wanted])
        k = min(n, 10)
        assert np.array_equal(rank.top(sims, k), np.argsort(slow_ranks(sims))[:k])


def test_blocks_and_halves_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    q, d = rng.standard_normal((7, 16)), rng.standard_normal((300, 16)).astype(np.float16)
    wanted = [{"easy": rng.permutation(300)[:5], "junk": rng.permutation(300)[:3]} for _ in q]
    monkeypatch.setattr(rank, "HELD_BYTES", 4 * 300 * 2)
    got = rank.ranks(q, d, wanted)
    sims = q.astype(np.float32) @ d.astype(np.float32).T
    for found, row, w in zip(got, sims, wanted, strict=True):
        for kind in ("easy", "junk"):
            assert np.array_equal(found[kind], slow_ranks(row)[w[kind]])


def official(order: list[int], good: list[int], junk: list[int]) -> tuple[float, list[float]]:
    """AP and precision at 1, 5, 10 as the benchmark defines them, position by position."""
    kept = [i for i in order if i not in junk]
    places = [kept.index(g) for g in good]
    places.sort()
    ap = 0.0
    for j, r in enumerate(places):
        before = 1.0 if r == 0 else j / r
        ap += (before + (j + 1) / (r + 1)) / (2 * len(places))
    precisions = []
    for k in (1, 5, 10):
        depth = min(k, max(places) + 1)
        precisions.append(sum(p < depth for p in places) / depth)
    return ap, precisions


def test_scores_equal_the_official_rules() -> None:
    rng = np.random.default_rng(0)
    aps, at, ranks = [], [], []
    for _ in range(40):
        order = rng.permutation(60).tolist()
        easy, hard, junk = np.split(rng.permutation(60)[:18], [6, 12])
        easy = easy[: rng.integers(0, 7)]
        junk = junk[: rng.integers(0, 7)]
        place = {i: order.index(i) for i in range(60)}
        ranks.append(
            {n: np.array([place[i] for i in ids], int) for n, ids in
             (("easy", easy), ("hard", hard), ("junk", junk))}
        )  # fmt: skip
        if len(easy):
            ap, p = official(order, easy.tolist(), [*junk.tolist(), *hard.tolist()])
            aps.append(ap)
            at.append(p)
    found = protocols.load("revisitop").all_scores(ranks)["easy"]
    assert 0 < len(aps) < 40  # some queries have no easy image and do not count
    assert abs(found["map"] - 100 * np.mean(aps)) < 1e-4
    for k, column in zip((1, 5, 10), np.mean(at, 0), strict=True):
        assert abs(found[f"mp@{k}"] - 100 * column) < 1e-4


def test_by_hand() -> None:
    assert metrics.average_precision(np.array([0, 2])) == pytest.approx(0.7917, abs=5e-5)
    assert metrics.without_junk(np.array([5, 1]), np.array([0, 3])).tolist() == [0, 3]
    assert metrics.precision_at(np.array([0, 2]), 10) == pytest.approx(2 / 3)
    assert metrics.precision_at(np.array([0, 2]), 1) == 1.0
    assert metrics.scores([np.zeros(0, int)]) == {}
    low, high = metrics.bootstrap(np.arange(100.0))
    assert low < 49.5 < high and high - low < 15


def test_shapes_are_batched_once_each() -> None:
    shapes = [(3, 4), (4, 3), (3, 4), (3, 4), (4, 3)]
    assert rendering.batches_by_shape(shapes, 2) == [[0, 2], [3], [1, 4]]
