"""One frame for the ensemble: concatenation, uncentred PCA, means, ridge, in double precision."""

import numpy as np
import pytest

from stages.distill import prototypes

RNG = np.random.default_rng(0)
WIDTHS = (4, 3, 6)


def unit(rows: int, dim: int) -> np.ndarray:
    x = RNG.standard_normal((rows, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


TEACHERS = [unit(50, d) for d in WIDTHS]


def test_inner_products_of_concatenated_rows_are_the_mean_similarity() -> None:
    rows = prototypes.concatenate(TEACHERS)
    assert rows.shape == (50, 13) and rows.dtype == np.float32
    assert np.allclose((rows**2).sum(1), 1, atol=1e-6)
    for i in range(0, 50, 7):
        for j in range(50):
            wanted = sum(float(t[i] @ t[j]) for t in TEACHERS) / 3
            assert float(rows[i] @ rows[j]) == pytest.approx(wanted, abs=1e-6)


def test_full_width_projection_keeps_every_inner_product() -> None:
    rows = prototypes.concatenate(TEACHERS)
    w = prototypes.fit_projection([rows], 13)
    y = rows @ w.projection.T
    assert np.allclose(y @ y.T, rows @ rows.T, atol=1e-6)
    assert w.energy_kept == pytest.approx(1)


@pytest.mark.parametrize("block", [1, 8, 50])
def test_projection_is_the_uncentred_pca_of_an_svd(block: int) -> None:
    x = prototypes.concatenate(TEACHERS).astype(np.float64) + 0.3  # a mean that must not be removed
    w = prototypes.fit_projection((x[i : i + block] for i in range(0, 50, block)), 5)
    _, s, vt = np.linalg.svd(x, full_matrices=False)
    assert np.allclose(w.eigenvalue, s[:5] ** 2 / 50)
    assert np.allclose(np.abs(w.projection @ vt[:5].T), np.eye(5), atol=1e-8)
    assert np.array_equal(w.mean, np.zeros(13)) and w.projection.shape == (5, 13)
    assert w.energy_kept == pytest.approx((s[:5] ** 2).sum() / (s**2).sum())


def test_no_projection_of_that_width_keeps_inner_products_better() -> None:
    rows = prototypes.concatenate(TEACHERS)
    w = prototypes.fit_projection([rows], 5)
    gram = rows @ rows.T
    y = rows @ w.projection.T
    error = ((y @ y.T - gram) ** 2).sum()
    values = np.linalg.eigvalsh(gram.astype(np.float64))[::-1]
    assert error == pytest.approx((values[5:] ** 2).sum(), rel=1e-4)


@pytest.mark.parametrize("block", [1, 6, 30])
def test_means_are_those_of_a_loop_in_any_order(block: int) -> None:
    label = RNG.integers(7, size=30)
    label[:7] = np.arange(7)
    rows = unit(30, 4)
    means = prototypes.Means(7, 4)
    for i in range(0, 30, block):
        means.add(label[i : i + block], rows[i : i + block])
    means.add(label[:0], rows[:0])
    found = means.result()
    for p in range(7):
        total = np.zeros(4)
        for row, of in zip(rows, label, strict=True):
            if of == p:
                total += row
        assert np.allclose(found[p], total / np.linalg.norm(total), atol=1e-6)


def test_a_label_without_rows_is_a_zero_row() -> None:
    means = prototypes.Means(2, 3)
    means.add(np.array([1]), np.eye(3)[:1])
    assert np.array_equal(means.result(), [[0, 0, 0], [1, 0, 0]])


def test_ridge_is_least_squares_where_it_costs_nothing() -> None:
    x, y = RNG.standard_normal((40, 5)) + 2, RNG.standard_normal((40, 3)) - 1
    weight, bias = prototypes.ridge(x, y, 0.0)
    wanted = np.linalg.lstsq(np.c_[x, np.ones(40)], y, rcond=None)[0]
    assert np.allclose(weight, wanted[:5].T, atol=1e-8) and np.allclose(bias, wanted[5], atol=1e-8)


@pytest.mark.parametrize("strength", [1e-3, 0.5, 30.0])
def test_ridge_is_the_closed_form_with_a_free_bias(strength: float) -> None:
    """Augmented least squares: extra rows sqrt(l) I with targets 0, which do not touch the bias."""
    x, y = RNG.standard_normal((40, 5)) * [1, 2, 3, 0.5, 0.1] + 2, RNG.standard_normal((40, 3)) - 1
    weight, bias = prototypes.ridge(x, y, strength)
    penalty = strength * 40 * x.var(0).mean()
    rows = np.r_[np.c_[x, np.ones(40)], np.c_[np.sqrt(penalty) * np.eye(5), np.zeros(5)]]
    wanted = np.linalg.lstsq(rows, np.r_[y, np.zeros((5, 3))], rcond=None)[0]
    assert np.allclose(weight, wanted[:5].T, atol=1e-8) and np.allclose(bias, wanted[5], atol=1e-8)


def test_the_strength_is_relative_to_the_scale_of_the_features() -> None:
    x, y = RNG.standard_normal((40, 5)), RNG.standard_normal((40, 3))
    weight, bias = prototypes.ridge(x, y, 0.3)
    scaled, same = prototypes.ridge(100 * x, y, 0.3)
    assert np.allclose(100 * scaled, weight) and np.allclose(same, bias)


def test_single_precision_is_solved_in_double() -> None:
    x, y = RNG.standard_normal((40, 5)) + 50, RNG.standard_normal((40, 3))
    single = prototypes.ridge(x.astype(np.float32), y.astype(np.float32), 0.1)[0]
    wanted = prototypes.ridge(
        x.astype(np.float32).astype(np.float64), y.astype(np.float32).astype(np.float64), 0.1
    )[0]
    assert np.allclose(single, wanted, atol=1e-12)


def test_the_strength_is_chosen_on_whole_groups_held_out() -> None:
    unit_ids = np.repeat(np.arange(20), 4)
    x = RNG.standard_normal((80, 30)).astype(np.float32)
    y = unit(80, 4)
    weight, bias, strength = prototypes.ridge_by_groups(x, y, unit_ids, seed=3)
    held = np.random.default_rng(3).permutation(np.arange(20))[:4]
    out = np.array([u in held for u in unit_ids])
    scores = []
    for s in prototypes.STRENGTHS:
        w, b = prototypes.ridge(x[~out], y[~out], s)
        cosines = []
        for row, goal in zip(x[out], y[out], strict=True):
            p = w @ row + b
            cosines.append(float(p @ goal) / float(np.linalg.norm(p) * np.linalg.norm(goal)))
        scores.append(float(np.mean(cosines)))
    assert strength == prototypes.STRENGTHS[int(np.argmax(scores))]
    wanted = prototypes.ridge(x, y, strength)  # then fitted on all rows
    assert np.allclose(weight, wanted[0]) and np.allclose(bias, wanted[1])


def test_pure_noise_asks_for_more_strength_than_a_clean_map() -> None:
    ids = np.repeat(np.arange(20), 5)
    x = RNG.standard_normal((100, 20))
    clean = x @ RNG.standard_normal((20, 4))
    noise = clean + 60 * RNG.standard_normal((100, 4))
    weak, strong = (prototypes.ridge_by_groups(x, y, ids, 0)[2] for y in (clean, noise))
    assert weak == min(prototypes.STRENGTHS) < strong


def test_one_group_alone_still_gives_a_map() -> None:
    x, y = RNG.standard_normal((10, 3)), unit(10, 2)
    weight, bias, strength = prototypes.ridge_by_groups(x, y, np.zeros(10, int), 0)
    assert weight.shape == (2, 3) and bias.shape == (2,) and strength > 0
