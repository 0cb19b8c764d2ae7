"""Whitening against the formula in float64: moments, spectrum, floor, exponent, energy."""

from pathlib import Path

import numpy as np
import pytest

from stages.core import store
from stages.core.errors import UserError
from stages.distill import whitening
from stages.distill.whitening import Moments, Whitening

D = 6
RNG = np.random.default_rng(0)
MIX = RNG.standard_normal((D, D)) * np.array([3, 2, 1, 0.5, 0.2, 0.05])
X = RNG.standard_normal((400, D)) @ MIX.T + 5 * RNG.standard_normal(D)


def by_hand(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance, one row at a time."""
    mean = sum(row for row in x) / len(x)
    covariance = sum(np.outer(row - mean, row - mean) for row in x) / len(x)
    return mean, covariance


def fitted(dim: int = D, exponent: float = 0.5, floor: float = 1e-5) -> Whitening:
    mean, covariance = by_hand(X)
    return whitening.fit_pca(mean, covariance, dim=dim, exponent=exponent, floor=floor)


@pytest.mark.parametrize("block", [1, 7, 400])
def test_moments_are_those_of_all_rows_whatever_the_blocks(block: int) -> None:
    m = whitening.moments((X[i : i + block] for i in range(0, len(X), block)), D)
    mean, covariance = by_hand(X)
    assert m.count == 400
    assert np.allclose(m.mean, mean, rtol=1e-12, atol=1e-12)
    assert np.allclose(m.covariance, covariance, rtol=1e-10, atol=1e-12)
    assert np.allclose(m.covariance, np.cov(X.T, bias=True), rtol=1e-10)


def test_moments_of_half_precision_are_summed_in_double() -> None:
    rows = (1 + 1e-3 * RNG.standard_normal((20_000, 3))).astype(np.float16)
    m = whitening.moments([rows[:1], rows[1:1], rows[1:]], 3)
    assert np.allclose(m.covariance, np.cov(rows.astype(np.float64).T, bias=True), rtol=1e-9)


def test_a_far_mean_costs_no_digits() -> None:
    m = whitening.moments([X[:200] + 1e6, X[200:] + 1e6], D)
    assert np.allclose(m.covariance, by_hand(X)[1], rtol=1e-6)


def test_no_rows_no_crash() -> None:
    m = Moments(3)
    assert m.count == 0 and np.array_equal(m.mean, np.zeros(3))


@pytest.mark.parametrize("dim", [1, 4, D])
def test_whitened_rows_have_unit_covariance_before_l2(dim: int) -> None:
    w = fitted(dim, floor=1e-12)
    y = (X - w.mean) @ w.projection.T
    assert y.shape == (400, dim)
    assert np.allclose(y.mean(0), 0, atol=1e-9)
    assert np.allclose(y.T @ y / len(y), np.eye(dim), atol=1e-8)


def test_the_largest_directions_are_kept_in_order() -> None:
    w = fitted(3)
    wanted = np.sort(np.linalg.svd(X - X.mean(0), compute_uv=False) ** 2 / len(X))[::-1]
    assert np.allclose(w.eigenvalue, wanted[:3])
    assert np.allclose(fitted(D).projection[:3], w.projection)


def test_exponent_zero_only_rotates_and_between_is_between() -> None:
    rotation = fitted(exponent=0)
    assert np.allclose(rotation.projection @ rotation.projection.T, np.eye(D))
    for exponent in (0.25, 1.0):
        w = fitted(exponent=exponent)
        for row, plain, value in zip(w.projection, rotation.projection, w.eigenvalue, strict=True):
            assert np.allclose(row, plain * value**-exponent)


def test_small_eigenvalues_are_raised_to_the_floor() -> None:
    values = np.array([4.0, 1.0, 1e-3, 0.0])
    w = whitening.fit_pca(np.zeros(4), np.diag(values), dim=4, exponent=0.5, floor=0.01)
    assert np.allclose(w.eigenvalue, [4, 1, 0.04, 0.04])
    lengths = np.linalg.norm(w.projection, axis=1)
    assert np.allclose(lengths, [0.5, 1, 5, 5])


def test_energy_is_the_share_of_the_variance() -> None:
    w = whitening.fit_pca(np.zeros(3), np.diag([6.0, 3, 1]), dim=2, exponent=0.5, floor=1e-5)
    assert w.energy_kept == pytest.approx(0.9)
    assert fitted().energy_kept == pytest.approx(1)


def test_the_floor_adds_no_energy_that_the_rows_do_not_have() -> None:
    """Where all rows lie in two directions, two directions hold all there is."""
    covariance = np.diag([1.0, 1.0, 0, 0, 0, 0])
    w = whitening.fit_pca(np.zeros(6), covariance, dim=2, exponent=0.5, floor=0.5)
    assert w.energy_kept == pytest.approx(1)


def test_signs_are_fixed() -> None:
    rotation = fitted(exponent=0).projection
    largest = rotation[np.arange(D), np.abs(rotation).argmax(1)]
    assert (largest > 0).all()


def test_apply_is_the_formula_and_unit_length() -> None:
    w = fitted(4)
    rows = X[:20].astype(np.float16)
    found = whitening.apply(rows, w)
    assert found.dtype == np.float32 and found.shape == (20, 4)
    for row, y in zip(rows.astype(np.float64), found, strict=True):
        wanted = np.array([sum(p * (row - w.mean)) for p in w.projection])
        wanted /= np.sqrt(sum(wanted**2))
        assert np.allclose(y, wanted, atol=1e-5)


def test_apply_stays_exact_where_whitening_amplifies_most() -> None:
    """Unit rows close to a common mean, directions at the floor: the case of real teachers."""
    rng = np.random.default_rng(1)
    scale = np.logspace(0, -2.5, 64)  # standard deviations: eigenvalues down to 1e-5
    rows = rng.standard_normal((3000, 64)) * scale * 0.05 + np.r_[np.full(32, 0.17), np.zeros(32)]
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    m = whitening.moments([rows], 64)
    w = whitening.fit_pca(m.mean, m.covariance, dim=64, exponent=0.5, floor=1e-5)
    wanted = (rows.astype(np.float64) - w.mean) @ w.projection.T
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert np.abs(whitening.apply(rows, w) - wanted).max() < 5e-4


def test_apply_changes_no_argument() -> None:
    rows, w = X[:5].astype(np.float32), fitted()
    before = rows.copy(), w.mean.copy(), w.projection.copy()
    whitening.apply(rows, w)
    assert all(
        np.array_equal(a, b) for a, b in zip(before, (rows, w.mean, w.projection), strict=True)
    )


def test_l2n_of_zero_rows_is_zero() -> None:
    found = whitening.l2n(np.array([[3.0, 4.0], [0, 0]]))
    assert np.array_equal(found, [[0.6, 0.8], [0, 0]])


def test_learned_whitening_by_hand() -> None:
    """The within-group covariance, shrunk, becomes white; the directions are the total's."""
    within = np.array([[0.5, 0.2, 0], [0.2, 0.4, 0.1], [0, 0.1, 0.3]])
    total = within + np.diag([2.0, 1.0, 0.2])
    w = whitening.fit_learned(np.ones(3), total, within, dim=3, shrinkage=0.25, floor=1e-5)
    shrunk = 0.75 * within + 0.25 * 0.4 * np.eye(3)  # trace 1.2 over 3
    assert np.allclose(w.projection @ shrunk @ w.projection.T, np.eye(3))
    after = w.projection @ total @ w.projection.T
    assert np.allclose(after, np.diag(w.eigenvalue), atol=1e-10)
    assert (np.diff(w.eigenvalue) < 0).all()
    two = whitening.fit_learned(np.ones(3), total, within, dim=2, shrinkage=0.25, floor=1e-5)
    assert np.allclose(two.projection, w.projection[:2])
    assert two.energy_kept == pytest.approx(w.eigenvalue[:2].sum() / w.eigenvalue.sum())


def test_full_shrinkage_is_a_rotation_by_the_total_covariance() -> None:
    total = by_hand(X)[1]
    w = whitening.fit_learned(np.zeros(D), total, 0.1 * total, dim=D, shrinkage=1, floor=1e-9)
    gram = w.projection @ w.projection.T
    assert np.allclose(gram, gram[0, 0] * np.eye(D))


def test_file_round_trip_in_double(tmp_path: Path) -> None:
    w = fitted(4)
    whitening.write(tmp_path / "w.h5", w, exponent=0.5, floor=1e-5, samples=400)
    found = whitening.read(tmp_path / "w.h5")
    assert np.array_equal(found.mean, w.mean) and found.energy_kept == w.energy_kept
    assert np.array_equal(found.projection, w.projection)
    assert np.array_equal(found.eigenvalue, w.eigenvalue)


def test_a_file_whose_parts_do_not_fit_is_refused(tmp_path: Path) -> None:
    arrays = {"mean": np.zeros(3), "projection": np.zeros((2, 4)), "eigenvalue": np.zeros(2)}
    store.write(tmp_path / "w.h5", "whitening", arrays, energy_kept=1.0)
    with pytest.raises(UserError, match=r"w\.h5"):
        whitening.read(tmp_path / "w.h5")


def test_a_whitening_of_another_teacher_is_refused(tmp_path: Path) -> None:
    fitted = whitening.Whitening(np.zeros(3), np.eye(3), np.ones(3), 1.0)
    for name in ("wa", "wb"):
        whitening.write(tmp_path / f"{name}.h5", fitted, teacher="wa")
    assert whitening.read(tmp_path / "wa.h5").energy_kept == 1
    with pytest.raises(UserError, match="wb.h5: of teacher wa, not wb"):
        whitening.read(tmp_path / "wb.h5")
