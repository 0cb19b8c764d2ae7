"""Votes on labels against brute force, and planted errors in a world of made descriptors."""

import tracemalloc

import numpy as np
import pytest

from stages.distill.whitening import l2n
from stages.tools.audit import votes

TEACHERS, DIM = 3, 48


def world(
    groups: int, images: int, noise: float, seed: int = 0
) -> tuple[list[np.ndarray], np.ndarray]:
    """Unit rows of each teacher: a centre a group and teacher, and noise; (n,) groups."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), images).astype(np.int32)
    rows = []
    for _ in range(TEACHERS):
        centre = l2n(rng.standard_normal((groups, DIM)))
        spread = rng.standard_normal((len(group), DIM)) / np.sqrt(DIM)
        rows.append(l2n(centre[group] + noise * spread).astype(np.float16))
    return rows, group


def sims(rows: list[np.ndarray]) -> np.ndarray:
    """(T, n, n) in float64."""
    return np.stack([r.astype(np.float64) @ r.astype(np.float64).T for r in rows])


def test_images_are_the_means_of_their_views() -> None:
    rng = np.random.default_rng(1)
    views = l2n(rng.standard_normal((7, 5))).astype(np.float16)
    spans = np.array([0, 2, 3, 7])
    found = votes.of_images(views, spans).astype(np.float64)
    for i, (a, b) in enumerate(zip(spans[:-1], spans[1:], strict=True)):
        mean = views[a:b].astype(np.float64).mean(0)
        np.testing.assert_allclose(found[i], mean / np.linalg.norm(mean), atol=2e-3)


def test_bounds_are_quantiles_of_pairs_of_different_groups() -> None:
    rows, group = world(40, 4, 1.0)
    limit = votes.bounds(rows, group, neighbours=5, different=0.8, seed=0)
    apart = group[:, None] != group[None]
    for t, s in enumerate(sims(rows)):
        assert (s[apart] <= limit.different[t]).mean() == pytest.approx(0.8, abs=0.01)
        above = ((s > limit.same[t]) & apart).sum(1).mean()
        assert above == pytest.approx(5, rel=0.15)  # images of other groups, on average


@pytest.mark.parametrize("block", [7, 64, 4096])
def test_same_pairs_equal_brute_force(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(votes, "BLOCK_ROWS", block)
    rows, group = world(20, 3, 1.5)
    group[:4] = -1  # without a group: each its own
    limit = votes.Bounds(np.full(TEACHERS, 0.1, np.float32), np.zeros(TEACHERS, np.float32))
    found = {tuple(p) for part in votes.same_pairs(rows, group, limit) for p in part.tolist()}
    exact = sims(rows)
    expected = {
        (i, j)
        for i in range(len(group))
        for j in range(i + 1, len(group))
        if (group[i] != group[j] or group[i] < 0) and (exact[:, i, j] > 0.1).all()
    }
    assert len(expected) > 20
    # float32 products may differ from float64 ones in the last digit at the bound itself
    odd = found ^ expected
    assert all(abs(exact[:, i, j] - 0.1).min() < 1e-5 for i, j in odd)


def test_nothing_of_all_pairs_is_held() -> None:
    rng = np.random.default_rng(0)
    n = 12_000
    rows = [l2n(rng.standard_normal((n, 8))).astype(np.float16)]
    limit = votes.Bounds(np.array([0.999], np.float32), np.array([0], np.float32))
    group = np.arange(n, dtype=np.int32)
    tracemalloc.start()
    for _ in votes.same_pairs(rows, group, limit):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * n / 2  # half a byte a pair


def test_odd_part_is_the_planted_one() -> None:
    different = np.zeros((5, 5), dtype=bool)
    different[3:, :3] = different[:3, 3:] = True  # two of five are another thing
    part = votes.odd_part(9, np.array([10, 11, 12, 13, 14]), different)
    assert part is not None and part.group == 9 and part.share == 1
    assert part.rows.tolist() == [13, 14] and part.rest.tolist() == [10, 11, 12]
    alone = np.zeros((4, 4), dtype=bool)
    alone[2, [0, 1]] = alone[[0, 1], 2] = True
    part = votes.odd_part(0, np.arange(4), alone)
    assert part is not None and part.rows.tolist() == [2]
    assert part.share == pytest.approx(2 / 3)
    assert votes.odd_part(0, np.arange(4), np.zeros((4, 4), bool)) is None
    assert votes.odd_part(0, np.arange(2), np.ones((2, 2), bool)) is None  # who is the odd one?
