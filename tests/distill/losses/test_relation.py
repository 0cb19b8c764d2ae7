"""The paper's loss against loops in double precision, and its gradient."""

import math

import pytest
import torch
from by_loops import Matrix, N, softmax, transposed, unit

from stages.distill.losses import relation


def kl_rows(target: Matrix, sims: Matrix, t: float) -> float:
    total = 0.0
    for f, s in zip(target, sims, strict=True):
        p, q = softmax(f, t), softmax(s, t)
        total += sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a > 0)
    return total / len(target)


@pytest.mark.parametrize("t", [0.05, 0.2, 1.0])
def test_relation_is_kl_teacher_first_rows_plus_columns(t: float) -> None:
    sims, target = unit(0) @ unit(1).T, unit(2) @ unit(3).T
    s, f = sims.tolist(), target.tolist()
    wanted = kl_rows(f, s, t) + kl_rows(transposed(f), transposed(s), t)
    assert float(relation.divergence(sims, target, t)) == pytest.approx(wanted, rel=1e-9)
    swapped = kl_rows(s, f, t) + kl_rows(transposed(s), transposed(f), t)
    assert abs(wanted - swapped) > 1e-3 * wanted  # so the order was tested


def test_relation_is_zero_where_the_student_is_the_target() -> None:
    target = (unit(0) @ unit(1).T).requires_grad_()
    value = relation.divergence(target, target.detach(), 0.05)
    assert float(value) == pytest.approx(0, abs=1e-12)
    (gradient,) = torch.autograd.grad(value, target)
    assert float(gradient.abs().max()) < 1e-12


def test_relation_ignores_what_softmax_ignores_but_not_the_sides() -> None:
    sims, target = unit(0) @ unit(1).T, unit(2) @ unit(3).T
    assert torch.allclose(
        relation.divergence(sims + 0.3, target, 0.1), relation.divergence(sims, target, 0.1)
    )
    assert torch.allclose(
        relation.divergence(sims.T, target.T, 0.1), relation.divergence(sims, target, 0.1)
    )  # two directions, summed
    assert not torch.allclose(
        relation.divergence(sims.T, target, 0.1), relation.divergence(sims, target, 0.1)
    )


def test_the_smallest_temperature_overflows_nowhere() -> None:
    sims = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], requires_grad=True)
    value = relation.divergence(sims, -sims.detach(), 0.001)
    (gradient,) = torch.autograd.grad(value, sims)
    assert bool(value.isfinite()) and bool(gradient.isfinite().all())


def test_the_gradient_of_relation_is_the_difference_of_the_softmaxes() -> None:
    sims, target, t = (unit(0) @ unit(1).T).requires_grad_(), unit(2) @ unit(3).T, 0.1
    (found,) = torch.autograd.grad(relation.divergence(sims, target, t), sims)
    s, f = sims.detach(), target
    rows = ((s / t).softmax(1) - (f / t).softmax(1)) / (N * t)
    columns = ((s / t).softmax(0) - (f / t).softmax(0)) / (N * t)
    assert torch.allclose(found, rows + columns)


def test_the_similarities_are_of_anchors_with_positives() -> None:
    a, b, target = unit(0), unit(1), unit(2) @ unit(3).T
    found = relation.loss(a, b, target=target, temperature=0.1)
    assert float(found) == float(relation.divergence(a @ b.T, target, 0.1))
    assert float(found) != float(relation.loss(b, a, target=target, temperature=0.1))
