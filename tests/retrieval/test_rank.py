"""Ranks without sorting against ranks by sorting: ties by row, any block, half precision."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from stages.core.errors import UserError
from stages.retrieval import rank

KINDS = ("easy", "hard", "junk")


def slow_order(sims: np.ndarray) -> list[int]:
    """All rows, best first, ties by row."""
    return sorted(range(len(sims)), key=lambda i: (-float(sims[i]), i))


def world(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray, list[dict[str, np.ndarray]]]:
    """Queries, database and wanted rows by kind; with ties, descriptors of few values."""
    rng = np.random.default_rng(seed)
    q, n, d = int(rng.integers(1, 6)), int(rng.integers(1, 90)), int(rng.integers(1, 5))
    if ties:
        query = rng.integers(-1, 2, (q, d)).astype(np.float32)
        database = rng.integers(-1, 2, (n, d)).astype(np.float16)
    else:
        query = rng.standard_normal((q, d)).astype(np.float32)
        database = rng.standard_normal((n, d)).astype(np.float16)
    wanted = []
    for _ in range(q):
        rows = rng.permutation(n)[: int(rng.integers(0, n + 1))]
        wanted.append(dict(zip(KINDS, np.array_split(rows, 3), strict=True)))
    return query, database, wanted


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(25))
def test_ranks_and_top_are_those_of_a_full_sort(
    seed: int, ties: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, database, wanted = world(seed, ties)
    monkeypatch.setattr(rank, "HELD_BYTES", 8 * len(database))  # two queries at a time
    k = seed % 7
    found, top = rank.ranks(query, database, wanted), rank.first_rows(query, database, k)
    assert len(found) == len(query)
    blocks = [s for _, s in rank.similarities(query, database)]
    for row, sims in enumerate(np.concatenate(blocks)):
        exact = database.astype(np.float64) @ query[row].astype(np.float64)
        assert np.allclose(sims, exact, atol=1e-5)
        order = slow_order(sims)
        for kind in KINDS:
            assert found[row][kind].tolist() == [order.index(i) for i in wanted[row][kind]]
        assert top[row].tolist() == order[:k]
    for one, other in zip(rank.ranks(query, database, wanted), found, strict=True):
        assert all(np.array_equal(one[kind], other[kind]) for kind in KINDS)


@pytest.mark.parametrize("block_rows", [1, 7, 50, 1000])
def test_blocks_of_any_size_give_all_rows(block_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    query = rng.integers(-3, 4, (5, 4)).astype(np.float32)  # whole numbers: sums are exact
    database = rng.integers(-3, 4, (50, 4)).astype(np.float16)
    monkeypatch.setattr(rank, "HELD_BYTES", 4 * 50 * 2)
    parts = list(rank.similarities(query, database, block_rows))
    assert [first for first, _ in parts] == [0, 2, 4]
    found = np.concatenate([s for _, s in parts])
    assert found.dtype == np.float32
    assert np.array_equal(found, query @ database.astype(np.float32).T)


def test_all_equal_similarities_rank_by_row() -> None:
    sims = np.full(20, 0.25, np.float32)
    wanted = np.array([19, 0, 7])
    assert rank.ranks_of(sims, wanted).tolist() == [19, 0, 7]
    assert rank.top(sims, 3).tolist() == [0, 1, 2]


def test_signed_zeros_are_equal() -> None:
    sims = np.array([0.0, -0.0, 1.0, -0.0, 0.0], np.float32)
    assert rank.ranks_of(sims, np.array([1, 4, 3])).tolist() == [2, 4, 3]
    assert rank.top(sims, 5).tolist() == [2, 0, 1, 3, 4]


def test_nothing_wanted_and_an_empty_database() -> None:
    assert rank.ranks_of(np.arange(3.0), np.zeros(0, np.int64)).tolist() == []
    none = {"positive": np.zeros(0, np.int64)}
    query, database = np.ones((2, 3)), np.ones((0, 3))
    found, top = rank.ranks(query, database, [none, none]), rank.first_rows(query, database, 5)
    assert [f["positive"].tolist() for f in found] == [[], []] and top.shape == (2, 0)
    assert rank.top(np.arange(3.0), 99).tolist() == [2, 1, 0]


def test_a_row_wanted_twice_has_one_rank() -> None:
    found = rank.ranks_of(np.array([0.1, 0.9, 0.5], np.float32), np.array([0, 2, 0]))
    assert found.tolist() == [2, 1, 2]


def test_every_query_needs_its_lists() -> None:
    with pytest.raises(ValueError):
        rank.ranks(np.ones((2, 3)), np.ones((4, 3)), [{"positive": np.array([0])}])


@given(
    values=some.lists(some.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=40),
    data=some.data(),
)  # fmt: skip
def test_ranks_are_places_in_a_stable_sort(values: list[float], data: some.DataObject) -> None:
    sims = np.array(values, dtype=np.float32)
    wanted = np.array(data.draw(some.lists(some.integers(0, len(sims) - 1), max_size=8)), np.int64)
    order = np.argsort(-sims, kind="stable")
    place = np.empty(len(sims), dtype=np.int64)
    place[order] = np.arange(len(sims))
    assert rank.ranks_of(sims, wanted).tolist() == place[wanted].tolist()
    k = data.draw(some.integers(0, len(sims) + 2))
    assert rank.top(sims, k).tolist() == order[:k].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_what_is_labelled_for_other_queries_is_no_candidate(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, database, lists = world(seed, ties=True)
    monkeypatch.setattr(rank, "HELD_BYTES", 8 * len(database))  # two queries at a time
    found = rank.ranks(query, database, lists, mask=True)
    first = rank.first_rows(query, database, 3, mask=lists)
    for q, own in enumerate(lists):
        others = {int(r) for o in lists for rows in o.values() for r in rows}
        hidden = others - {int(r) for rows in own.values() for r in rows}
        order = slow_order(database.astype(np.float32) @ query[q])
        seen = [i for i in order if i not in hidden]
        for name, rows in own.items():
            assert found[q][name].tolist() == [seen.index(r) for r in rows]
        assert first[q].tolist()[: len(seen)] == seen[:3]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["query", "database"])
def test_what_is_no_number_has_no_rank(place: str, value: float) -> None:
    query, database = np.eye(3, 4, dtype=np.float32), np.ones((9, 4), np.float32)
    (query if place == "query" else database)[2, 1] = value
    lists = [{"positive": np.array([1, 2])}] * 3
    for work in (
        lambda: rank.ranks(query, database, lists),
        lambda: rank.first_rows(query, database, 2),
    ):
        with pytest.raises(UserError, match="NaN or infinity, the first: query"):
            work()
    with pytest.raises(UserError, match="has no rank"):
        rank.ranks_of(np.array([0.5, np.nan, 0.1], np.float32), np.array([1]))
    others = np.array([np.nan, 0.5, np.nan, 0.7], np.float32)
    assert rank.ranks_of(others, np.array([1, 3])).tolist() == [1, 0]  # NaN is last
