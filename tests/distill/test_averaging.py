"""Averages of weights against sums by hand in float64, and the head by PCA against an SVD."""

import numpy as np
import pytest
import torch

from stages.distill.averaging import Moving, between, head_by_pca

RNG = np.random.default_rng(0)


def weights(seed: int) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return {
        "w": torch.from_numpy(rng.normal(size=(3, 2)).astype(np.float32)),
        "norm.running_var": torch.from_numpy(rng.uniform(1e-3, 1e3, 4).astype(np.float32)),
        "norm.num_batches_tracked": torch.tensor(10 * seed),
    }


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.85, 1.0])
def test_between_as_a_loop_in_float64(share: float) -> None:
    start, end = weights(1), weights(2)
    before = {k: v.clone() for k, v in start.items()}
    found = between(start, end, share)
    for name in ("w", "norm.running_var"):
        pairs = zip(start[name].flatten().tolist(), end[name].flatten().tolist(), strict=True)
        by_hand = np.array([np.float32((1 - share) * a + share * b) for a, b in pairs])
        assert np.array_equal(found[name].flatten().numpy(), by_hand)
        assert found[name].dtype == torch.float32
    assert int(found["norm.num_batches_tracked"]) == 20
    assert all(torch.equal(start[k], before[k]) for k in start)  # no argument is changed


def test_the_ends_are_the_weights_themselves() -> None:
    start, end = weights(1), weights(2)
    assert torch.equal(between(start, end, 0.0)["w"], start["w"])
    assert torch.equal(between(start, end, 1.0)["w"], end["w"])


def test_the_moving_average_as_its_sum_by_hand() -> None:
    start = weights(0)
    moving = Moving(start)
    expected = start["w"].double().numpy().copy()
    for step in range(1, 1200):
        new = weights(step)
        moving.add(new, step)
        move = max(0.01, 9 / (step + 9))
        expected = (1 - move) * expected + move * new["w"].double().numpy()
    found = moving.result(new)
    assert (
        np.allclose(found["w"].numpy(), expected, atol=1e-6) and found["w"].dtype == torch.float32
    )
    assert int(found["norm.num_batches_tracked"]) == 10 * step
    assert torch.equal(start["w"], weights(0)["w"])


def test_the_moving_average_of_constant_weights_is_them() -> None:
    same = weights(3)
    moving = Moving(same)
    for step in range(1, 50):
        moving.add(same, step)
    assert torch.equal(moving.result(same)["w"], same["w"])


def test_head_by_pca_as_an_svd_says() -> None:
    x = RNG.normal(size=(50, 8)) @ RNG.normal(size=(8, 8))
    weight, bias = head_by_pca(x, 3)
    assert weight.shape == (3, 8) and not bias.any()
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    # Eigenvalues are s^2 / n, so that half of their square root is left: s becomes sqrt(s) n^1/4.
    left = u[:, :3] * np.sqrt(s[:3])
    y = x @ weight.T
    assert np.allclose(y @ y.T, np.sqrt(50) * left @ left.T, atol=1e-8)


@pytest.mark.parametrize("rows", [3, 50])
def test_a_head_wider_than_the_backbone_ends_in_zeros(rows: int) -> None:
    x = RNG.normal(size=(rows, 6))
    weight, _ = head_by_pca(x, 10)
    assert weight.shape == (10, 6) and not weight[6:].any()
    assert np.isfinite(weight).all() and np.linalg.matrix_rank(x @ weight.T) == min(rows, 6)


def test_equal_features_give_equal_bytes() -> None:
    x = RNG.normal(size=(40, 6)).astype(np.float32)
    assert head_by_pca(x, 4)[0].tobytes() == head_by_pca(x.copy(), 4)[0].tobytes()
