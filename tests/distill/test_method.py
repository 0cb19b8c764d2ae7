"""The method's maths against hand-computed values and slow float64 oracles."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stages.distill import (
    batches,
    fusion,
    learned_whitening,
    prototypes,
    whitening,
)
from stages.distill.losses import Objective, contrastive, prototype, relation
from stages.images import views


def rows(n: int, d: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((n, d)) * np.linspace(1, 3, d)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_a_view_depends_on_nothing_but_its_name() -> None:
    one = views.draw(0, "a", 3)
    assert np.array_equal(one, views.draw(0, "a", 3))
    assert not np.array_equal(one, views.draw(0, "a", 4))
    assert not np.array_equal(one, views.draw(1, "a", 3))
    image, all_of = views.draw_all(0, ["b", "a"], np.array([1, 5]))
    assert image.tolist() == [0, 1, 1, 1, 1, 1] and np.array_equal(all_of[4], one)


def test_views_stay_inside_and_spread() -> None:
    _, v = views.draw_all(0, [str(i) for i in range(4000)], np.ones(4000))
    x, y, w, h, flip = v.T.astype(np.float64)
    assert (
        (x >= 0).all()
        and (y >= 0).all()
        and (x + w <= 1 + 1e-6).all()
        and (y + h <= 1 + 1e-6).all()
    )
    area, aspect = w * h, w / h
    assert 0.4 - 1e-6 <= area.min() < 0.42 and 0.98 < area.max() <= 1 + 1e-6
    assert abs(area.mean() - 0.7) < 0.01 and abs(np.log(aspect).mean()) < 0.01
    assert aspect.min() >= 3 / 4 - 1e-6 and aspect.max() <= 4 / 3 + 1e-6
    assert abs(flip.mean() - 0.5) < 0.03


def test_expected_views_follow_the_use_of_a_image() -> None:
    group = np.array([0] * 2 + [1] * 10 + [2] + [-1])
    counts = views.expected_counts(group, epochs=5, most=8)
    assert counts.tolist() == [5] * 2 + [1] * 10 + [8] + [8]
    assert views.expected_counts(group, epochs=1, most=1).tolist() == [1] * 12 + [2, 2]


def plan_of(group: np.ndarray, epochs: int, batch: int = 4) -> list[tuple[np.ndarray, np.ndarray]]:
    spans = np.arange(len(group) + 1) * 3
    return list(batches.plan(group, spans, batch=batch, epochs=epochs, seed=1))


def test_each_group_once_a_batch_and_two_different_images() -> None:
    group = np.array([0, 0, 1, 1, 1, 2, 2, 3, -1, -1, 4, 4, 4, 4])
    unit = batches.units(group)
    used = np.zeros(len(group) * 3, int)
    for anchor, positive in plan_of(group, 60):
        assert anchor.shape == (1, 4) and anchor.dtype == np.int32
        a, p = anchor[0] // 3, positive[0] // 3
        assert len(set(unit[a])) == 4 and np.array_equal(unit[a], unit[p])
        lone = np.isin(a, [7, 8, 9])
        assert (a[~lone] != p[~lone]).all() and (a[lone] == p[lone]).all()
        assert (anchor != positive).all()
        np.add.at(used, np.r_[anchor[0], positive[0]], 1)
    by_image = used.reshape(-1, 3)
    assert (by_image.max(1) - by_image.min(1) <= 1).all()  # views take turns


def test_an_epoch_does_not_depend_on_those_after_it() -> None:
    group = np.repeat(np.arange(9), 3)
    short, long = plan_of(group, 2), plan_of(group, 5)
    for (a, p), (b, q) in zip(short, long, strict=False):
        assert np.array_equal(a, b) and np.array_equal(p, q)
    assert not np.array_equal(long[0][0], long[1][0])
    assert long[0][0].shape == (2, 4)  # nine groups: the ninth fills no batch


def test_moments_equal_numpy_whatever_the_blocks() -> None:
    x = rows(500, 12).astype(np.float16)
    for block in (1, 7, 500):
        m = whitening.moments((x[i : i + block] for i in range(0, 500, block)), 12)
        wide = x.astype(np.float64)
        np.testing.assert_allclose(m.mean, wide.mean(0), atol=1e-12)
        np.testing.assert_allclose(m.covariance, np.cov(wide.T, bias=True), atol=1e-12)


def test_pca_whitening_makes_the_covariance_the_identity() -> None:
    x = rows(800, 10)
    m = whitening.moments([x], 10)
    w = whitening.fit_pca(m.mean, m.covariance, dim=6, exponent=0.5, floor=1e-5)
    y = (x - w.mean) @ w.projection.T
    np.testing.assert_allclose(np.cov(y.T, bias=True), np.eye(6), atol=1e-9)
    values = np.sort(np.linalg.eigvalsh(np.cov(x.T, bias=True)))[::-1]
    np.testing.assert_allclose(w.energy_kept, values[:6].sum() / values.sum())
    expected = y / np.linalg.norm(y, axis=1, keepdims=True)
    np.testing.assert_allclose(whitening.apply(x, w), expected, atol=1e-5)


def test_floor_and_exponent() -> None:
    covariance = np.diag([4.0, 1.0, 1e-12])
    w = whitening.fit_pca(np.zeros(3), covariance, dim=3, exponent=0.25, floor=1e-2)
    assert w.eigenvalue.tolist() == [4.0, 1.0, 0.04]
    np.testing.assert_allclose(np.abs(w.projection), np.diag([4**-0.25, 1, 0.04**-0.25]))


def test_learned_whitening_equals_its_definition() -> None:
    rng = np.random.default_rng(0)
    centre = rng.standard_normal((40, 6))
    group = np.repeat(np.arange(40), 6)
    x = centre[group] + rng.standard_normal((240, 6)) * np.array([3, 1, 1, 1, 0.2, 0.2])
    within = learned_whitening.within(x, group, np.arange(240), 20000, np.random.default_rng(1))
    expected = np.diag(np.array([3, 1, 1, 1, 0.2, 0.2]) ** 2)
    assert np.abs(within - expected).max() < 0.9  # 240 rows: the largest variance is 9
    total = np.cov(x.T, bias=True)
    w = whitening.fit_learned(np.zeros(6), total, within, dim=4, shrinkage=0.2, floor=1e-9)
    shrunk = 0.8 * within + 0.2 * np.trace(within) / 6 * np.eye(6)
    # Its rows make the shrunk within-group covariance the identity, and the total one diagonal.
    np.testing.assert_allclose(w.projection @ shrunk @ w.projection.T, np.eye(4), atol=1e-8)
    both = w.projection @ total @ w.projection.T
    np.testing.assert_allclose(both, np.diag(w.eigenvalue), atol=1e-8)


def test_learned_whitening_leaves_out_pairs_of_the_same_image_and_the_ungrouped() -> None:
    group = np.array([0, 0, 0, 0, 1, 1, -1, -1])
    image = np.array([0, 0, 1, 1, 2, 3, 4, 5])
    a, b = learned_whitening.draw_pairs(group, image, 500, np.random.default_rng(0))
    assert (image[a] != image[b]).all() and (group[a] == group[b]).all()
    assert set(np.r_[a, b]) == {0, 1, 2, 3, 4, 5}


SIMS = np.array([[[9, 1, 2], [3, 8, 4], [5, 6, 7]], [[1, 9, 8], [7, 2, 6], [5, 4, 3]]], float)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("maxmin", [[9, 1, 2], [3, 8, 4], [5, 4, 7]]),
        ("mean", [[5, 5, 5], [5, 5, 5], [5, 5, 5]]),
        ("maxmean", [[9, 5, 5], [5, 8, 5], [5, 5, 7]]),
        ("maxfix", [[9, 9, 8], [7, 8, 6], [5, 4, 7]]),
    ],
)
def test_strategies_by_hand(name: str, expected: list[list[float]]) -> None:
    before = SIMS.copy()
    got = fusion.STRATEGIES[name](SIMS, np.random.default_rng(0))
    assert got.tolist() == expected and np.array_equal(SIMS, before)


def test_random_strategies_take_one_teacher_an_entry() -> None:
    sims = np.random.default_rng(0).random((3, 40, 40))
    for name in ("rand", "maxrand"):
        got = fusion.STRATEGIES[name](sims, np.random.default_rng(5))
        again = fusion.STRATEGIES[name](sims, np.random.default_rng(5))
        assert np.array_equal(got, again)
        off = ~np.eye(40, dtype=bool)
        source = (got[None] == sims)[:, off]
        assert (source.sum(0) == 1).all() and (source.mean(1) > 0.28).all()
    assert np.array_equal(np.diag(got), sims.max(0).diagonal())


def kl_by_loops(target: np.ndarray, sims: np.ndarray, t: float) -> float:
    total = 0.0
    for f, s in ((target, sims), (target.T, sims.T)):
        for i in range(len(f)):
            p = np.exp(f[i] / t) / np.exp(f[i] / t).sum()
            q = np.exp(s[i] / t) / np.exp(s[i] / t).sum()
            total += sum(p[j] * np.log(p[j] / q[j]) for j in range(len(p))) / len(f)
    return total


def test_relation_is_kl_by_rows_and_by_columns() -> None:
    rng = np.random.default_rng(0)
    sims, target = rng.uniform(-1, 1, (2, 5, 5))
    got = relation.divergence(torch.tensor(sims), torch.tensor(target), 0.1)
    np.testing.assert_allclose(float(got), kl_by_loops(target, sims, 0.1), rtol=1e-10)
    assert float(relation.divergence(torch.tensor(target), torch.tensor(target), 0.1)) < 1e-12


def test_contrastive_is_cross_entropy_both_ways() -> None:
    sims = np.random.default_rng(0).uniform(-1, 1, (4, 4))
    expected = 0.0
    for s in (sims, sims.T):
        for i in range(4):
            expected -= (s[i, i] / 0.2 - np.log(np.exp(s[i] / 0.2).sum())) / 4
    np.testing.assert_allclose(float(contrastive.info_nce(torch.tensor(sims), 0.2)), expected)


def test_gradient_of_the_prototype_loss_is_the_analytic_one() -> None:
    g = torch.Generator().manual_seed(0)
    z = torch.randn(6, 5, generator=g, dtype=torch.float64, requires_grad=True)
    target = F.normalize(torch.randn(6, 5, generator=g, dtype=torch.float64), dim=1)
    prototype.distance(F.normalize(z, dim=1), target).backward()
    unit = F.normalize(z.detach(), dim=1)
    cosine = (unit * target).sum(1, keepdim=True)
    expected = -(target - cosine * unit) / z.detach().norm(dim=1, keepdim=True) / 6
    torch.testing.assert_close(z.grad, expected)


def test_objective_weighs_its_losses() -> None:
    a, p = (
        F.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(s)), dim=1)
        for s in (0, 1)
    )
    both = Objective({"prototype": 2.0, "contrastive": 0.5}, {"contrastive": 0.1})
    target = torch.stack([p, a])
    expected = 2 * prototype.distance(torch.stack([a, p]), target) + 0.5 * contrastive.info_nce(
        a @ p.T, 0.1
    )
    torch.testing.assert_close(both(a, p, {"prototype": target}), expected)


def test_concatenation_is_mean_fusion() -> None:
    parts = [rows(7, d, d).astype(np.float16) for d in (5, 8)]
    c = prototypes.concatenate(parts).astype(np.float64)
    wide = [p.astype(np.float64) for p in parts]
    np.testing.assert_allclose(c @ c.T, np.mean([w @ w.T for w in wide], 0), atol=1e-6)


def test_frame_is_an_uncentred_pca() -> None:
    x = rows(200, 9) + 0.3
    w = prototypes.fit_projection([x[:50], x[50:]], 4)
    _, values, vectors = np.linalg.svd(x, full_matrices=False)
    np.testing.assert_allclose(w.eigenvalue, values[:4] ** 2 / 200)
    np.testing.assert_allclose(np.abs(w.projection), np.abs(vectors[:4]), atol=1e-8)
    assert not w.mean.any()


def test_means_equal_a_loop() -> None:
    x, label = rows(60, 5), np.random.default_rng(0).integers(0, 7, 60)
    means = prototypes.Means(7, 5)
    means.add(label[:31], x[:31])
    means.add(label[31:], x[31:])
    for k in range(7):
        m = x[label == k].mean(0)
        np.testing.assert_allclose(means.result()[k], m / np.linalg.norm(m), atol=1e-6)


def test_ridge_equals_the_normal_equations() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 6)), rng.standard_normal((50, 3))
    weight, bias = prototypes.ridge(x, y, 0.1)
    xc, yc = x - x.mean(0), y - y.mean(0)
    strength = 0.1 * np.trace(xc.T @ xc) / 6
    # Ridge is least squares with d more rows of sqrt(strength) times the identity.
    wide = np.r_[xc, np.sqrt(strength) * np.eye(6)]
    expected = np.linalg.lstsq(wide, np.r_[yc, np.zeros((6, 3))], rcond=None)[0].T
    np.testing.assert_allclose(weight, expected, atol=1e-10)
    np.testing.assert_allclose(bias, y.mean(0) - expected @ x.mean(0), atol=1e-10)


def test_ridge_strength_is_chosen_on_groups_that_were_left_out() -> None:
    rng = np.random.default_rng(0)
    unit = np.repeat(np.arange(20), 5)
    x = rng.standard_normal((100, 80))  # nearly as many dimensions as rows: needs a strong ridge
    y = whitening.l2n(x[:, :3] + 2 * rng.standard_normal((100, 3)))
    *_, strength = prototypes.ridge_by_groups(x, y, unit, seed=0)
    assert strength > prototypes.STRENGTHS[0]
    *_, clean = prototypes.ridge_by_groups(x[:, :3], whitening.l2n(x[:, :3]), unit, seed=0)
    assert clean < strength
