"""Learned whitening: pairs of a group in different images, and what is recovered from them."""

import numpy as np

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
    x, group, image, _ = world(10)  # 60 rows: 50 pairs are fewer, and drawn
    a, b = learned_whitening.draw_pairs(group, image, 50, np.random.default_rng(3))
    wanted = sum(np.outer(x[i] - x[j], x[i] - x[j]) for i, j in zip(a, b, strict=True))
    found = learned_whitening.within(x, group, image, 50, np.random.default_rng(3))
    assert np.allclose(found, wanted / (2 * len(a)))


def test_all_pairs_are_what_drawing_tends_to() -> None:
    x, group, image, _ = world(10)
    image[:4] = image[0]  # units and images of different sizes
    group[-3:] = -1
    shuffled = np.random.default_rng(0).permutation(len(x))
    found = learned_whitening.within(
        x[shuffled], group[shuffled], image[shuffled], 60, np.random.default_rng(0)
    )
    a, b = learned_whitening.draw_pairs(group, image, 400_000, np.random.default_rng(1))
    drawn = (x[a] - x[b]).T @ (x[a] - x[b]) / (2 * len(a))
    assert np.abs(found - drawn).max() < 0.01 * np.abs(drawn).max()


def test_all_pairs_of_single_images_are_their_views() -> None:
    x, _, image, _ = world(10)
    found = learned_whitening.within(x, image, image, 60, np.random.default_rng(0))
    differences = x[::2] - x[1::2]
    assert np.allclose(found, differences.T @ differences / (2 * len(differences)))


def test_a_planted_within_group_covariance_is_recovered() -> None:
    x, group, image, planted = world(1500)
    for pairs in (8_999, 30_000):  # drawn, and all of them
        found = learned_whitening.within(x, group, image, pairs, np.random.default_rng(0))
        assert np.abs(found - planted).max() < 0.05
        w = whitening.fit_learned(
            x.mean(0), total_of(x).covariance, found, dim=D, shrinkage=0.0, floor=1e-9
        )
        white = w.projection @ planted @ w.projection.T
        assert np.abs(white - np.eye(D)).max() < 0.12
