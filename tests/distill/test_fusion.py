"""The six strategies, by hand on three teachers and three pairs."""

import numpy as np
import pytest

from stages.distill.fusion import STRATEGIES

RNG = np.random.default_rng(0)
SIMS = np.array([
    [[0.9, 0.1, 0.2], [0.3, 0.5, -0.4], [0.0, 0.6, 0.7]],
    [[0.6, 0.4, -0.1], [0.2, 0.8, 0.5], [0.3, -0.3, 0.4]],
    [[0.3, 0.7, 0.5], [0.1, 0.2, 0.2], [0.6, 0.0, 0.1]],
])  # fmt: skip
BY_HAND = {
    "maxmin": [[0.9, 0.1, -0.1], [0.1, 0.8, -0.4], [0.0, -0.3, 0.7]],
    "mean": [[0.6, 0.4, 0.2], [0.2, 0.5, 0.1], [0.3, 0.1, 0.4]],
    "maxmean": [[0.9, 0.4, 0.2], [0.2, 0.8, 0.1], [0.3, 0.1, 0.7]],
    "maxfix": [[0.9, 0.7, 0.5], [0.1, 0.8, 0.2], [0.6, 0.0, 0.7]],
}


@pytest.mark.parametrize("name", BY_HAND)
def test_fixed_strategies(name: str) -> None:
    assert np.allclose(STRATEGIES[name](SIMS, RNG), BY_HAND[name])


def test_the_six_of_the_contract() -> None:
    assert sorted(STRATEGIES) == sorted(["maxmin", "mean", "maxmean", "maxrand", "rand", "maxfix"])


@pytest.mark.parametrize("name", ["rand", "maxrand"])
def test_random_entries_are_each_of_one_teacher_and_seeded(name: str) -> None:
    first = STRATEGIES[name](SIMS, np.random.default_rng(3))
    assert np.array_equal(first, STRATEGIES[name](SIMS, np.random.default_rng(3)))
    assert any(
        not np.array_equal(first, STRATEGIES[name](SIMS, np.random.default_rng(s)))
        for s in range(4, 9)
    )
    for i in range(3):
        for j in range(3):
            allowed = SIMS[:, i, j] if name == "rand" or i != j else [SIMS[:, i, i].max()]
            assert first[i, j] in allowed


@pytest.mark.parametrize("name", ["rand", "maxrand"])
def test_each_teacher_is_as_likely(name: str) -> None:
    rng, share = np.random.default_rng(0), np.zeros(3)
    for _ in range(2000):
        drawn = STRATEGIES[name](SIMS, rng)
        share += [drawn[0, 1] == SIMS[k, 0, 1] for k in range(3)]
    assert np.allclose(share / 2000, 1 / 3, atol=0.04)


@pytest.mark.parametrize("name", ["rand", "maxrand"])
def test_the_mask_is_over_entries_not_one_for_all(name: str) -> None:
    sims = np.broadcast_to(np.arange(3.0)[:, None, None], (3, 8, 8))
    drawn = STRATEGIES[name](sims, np.random.default_rng(0))
    assert set(drawn[~np.eye(8, dtype=bool)].tolist()) == {0, 1, 2}


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_one_matrix_serves_rows_and_columns_and_nothing_is_changed(name: str) -> None:
    before = SIMS.copy()
    found = STRATEGIES[name](SIMS, np.random.default_rng(0))
    assert found.shape == (3, 3) and np.array_equal(SIMS, before)
    found[:] = 7  # the caller may use it as its own
    assert np.array_equal(SIMS, before)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_one_teacher_alone_is_itself(name: str) -> None:
    assert np.allclose(STRATEGIES[name](SIMS[:1], np.random.default_rng(0)), SIMS[0])


@pytest.mark.parametrize("name", ["maxmin", "mean", "maxmean"])
def test_the_order_of_teachers_does_not_count(name: str) -> None:
    assert np.allclose(STRATEGIES[name](SIMS[::-1], RNG), BY_HAND[name])
