"""Learned whitening: pairs of a group in different images, and what is recovered from them."""

import numpy as np
import pytest

from stages.distill import learned_whitening, whitening

D = 5
SPREAD = np.array([1.0, 0.6, 0.3, 0.2, 0.1])  # within a group
BETWEEN = np.array([0.2, 0.2, 0.6, 0.6, 1.0])


def world(groups: int = 300, images: int = 3, views: int = 2, seed: int = 0) -> tuple:
    """Rows whose within-group covariance is known: (descriptor, group, image) of each view."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((D, D)))[0]
    centre = rng.standard_normal((groups, 1, 1, D)) * BETWEEN
    scatter = rng.standard_normal((groups, images, 1, D)) * SPREAD
    rows = np.broadcast_to(centre + scatter, (groups, images, views, D)).reshape(-1, D)
    group = np.repeat(np.arange(groups), images * views)
    image = np.repeat(np.arange(groups * images), views)
    return rows @ turn.T, group, image, turn @ np.diag(SPREAD**2) @ turn.T


def total_of(x: np.ndarray) -> whitening.Moments:
    return whitening.moments([x], D)


def test_pairs_are_of_one_group_and_of_two_images() -> None:
    _, group, image, _ = world(40)
    group = np.where(group == 7, -1, group)
    a, b = learned_whitening.draw_pairs(group, image, 2000, np.random.default_rng(0))
    assert (group[a] == group[b]).all() and (group[a] >= 0).all()
    assert (image[a] != image[b]).all()
    assert len(a) > 1000 and len(set(group[a].tolist())) == 39


def test_a_group_of_one_image_gives_no_pair_where_others_have_two() -> None:
    group, image = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])
    a, b = learned_whitening.draw_pairs(group, image, 500, np.random.default_rng(0))
    assert set(zip(a.tolist(), b.tolist(), strict=True)) == {(2, 3), (3, 2)}


def test_two_views_of_a_image_serve_where_there_is_nothing_else() -> None:
    group, image = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])
    a, b = learned_whitening.draw_pairs(group, image, 100, np.random.default_rng(0))
    assert len(a) and (group[a] == group[b]).all() and (a != b).all()


def test_within_is_half_the_mean_outer_product_of_differences() -> None:
    x, group, image, _ = world(10)
    a, b = learned_whitening.draw_pairs(group, image, 300, np.random.default_rng(3))
    wanted = sum(np.outer(x[i] - x[j], x[i] - x[j]) for i, j in zip(a, b, strict=True))
    found = learned_whitening.within(x, group, image, 300, np.random.default_rng(3))
    assert np.allclose(found, wanted / (2 * len(a)))


def test_a_planted_within_group_covariance_is_recovered() -> None:
    x, group, image, planted = world(1500)
    found = learned_whitening.within(x, group, image, 30_000, np.random.default_rng(0))
    assert np.abs(found - planted).max() < 0.05
    w, _ = learned_whitening.fit(
        x, group, image, total_of(x), dim=D, pairs=30_000, shrinkage=0.0, floor=1e-9, seed=0
    )
    white = w.projection @ planted @ w.projection.T
    assert np.abs(white - np.eye(D)).max() < 0.12


def test_mean_ap_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    x = whitening.l2n(rng.standard_normal((40, 4)))
    image = rng.integers(20, size=40)
    group = image // 3
    values = []
    for q in range(40):
        others = [i for i in range(40) if image[i] != image[q]]
        others.sort(key=lambda i: -float(x[i] @ x[q]))
        hits, precisions = 0, []
        for rank, i in enumerate(others, 1):
            if group[i] == group[q]:
                hits += 1
                precisions.append(hits / rank)
        if precisions:
            values.append(sum(precisions) / len(precisions))
    assert learned_whitening.mean_ap(x, group, image) == pytest.approx(np.mean(values))


def test_mean_ap_without_any_answer_is_zero() -> None:
    assert learned_whitening.mean_ap(np.eye(3), np.arange(3), np.arange(3)) == 0


def test_auto_takes_the_best_of_its_grid_on_the_groups_held_out() -> None:
    x, group, image, _ = world(60)
    common = dict(dim=3, pairs=500, floor=1e-5, seed=5)
    _, chosen = learned_whitening.fit(x, group, image, total_of(x), shrinkage="auto", **common)
    rng = np.random.default_rng(5)
    held = rng.permutation(np.arange(60))[:12]
    out = np.isin(group, held)
    inside = learned_whitening.within(x, np.where(out, -1, group), image, 500, rng)
    scores = []
    for value in learned_whitening.SHRINKAGES:
        w = whitening.fit_learned(
            total_of(x).mean, total_of(x).covariance, inside, dim=3, shrinkage=value, floor=1e-5
        )
        scores.append(learned_whitening.mean_ap(whitening.apply(x[out], w), group[out], image[out]))
    assert chosen == learned_whitening.SHRINKAGES[int(np.argmax(scores))]


def test_whitening_by_groups_ranks_better_where_groups_scatter_most() -> None:
    """The directions of large within-group scatter are noise: PCA keeps them, learned does not."""
    x, group, image, _ = world(200)
    fresh, labels, images, _ = world(200, seed=0)
    w, _ = learned_whitening.fit(
        x, group, image, total_of(x), dim=3, pairs=5000, shrinkage="auto", floor=1e-5, seed=0
    )
    pca = whitening.fit_pca(
        total_of(x).mean, total_of(x).covariance, dim=3, exponent=0.5, floor=1e-5
    )
    ours, theirs = (
        learned_whitening.mean_ap(whitening.apply(fresh, f), labels, images) for f in (w, pca)
    )  # fmt: skip
    assert ours > theirs + 0.05


def test_same_seed_same_whitening() -> None:
    x, group, image, _ = world(40)
    arguments = dict(dim=3, pairs=200, shrinkage="auto", floor=1e-5)
    first, other = (
        learned_whitening.fit(x, group, image, total_of(x), seed=s, **arguments)[0].projection
        for s in (1, 2)
    )  # fmt: skip
    again = learned_whitening.fit(x, group, image, total_of(x), seed=1, **arguments)[0].projection
    assert np.array_equal(first, again) and not np.array_equal(first, other)
