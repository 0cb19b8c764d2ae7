"""The losses against loops in double precision, and their gradients."""

import math

import pytest
import torch
from torch import Tensor

from stages import train
from stages.distill import loss
from stages.distill.objective import Objective

torch.set_num_threads(1)
N, D = 5, 4
Matrix = list[list[float]]


def unit(seed: int, rows: int = N) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, D, generator=g, dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True)


def softmax(row: list[float], t: float) -> list[float]:
    top = max(row)
    e = [math.exp((v - top) / t) for v in row]
    return [v / sum(e) for v in e]


def kl_rows(target: Matrix, sims: Matrix, t: float) -> float:
    total = 0.0
    for f, s in zip(target, sims, strict=True):
        p, q = softmax(f, t), softmax(s, t)
        total += sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a > 0)
    return total / len(target)


def transposed(m: Matrix) -> Matrix:
    return [list(column) for column in zip(*m, strict=True)]


@pytest.mark.parametrize("t", [0.05, 0.2, 1.0])
def test_relation_is_kl_teacher_first_rows_plus_columns(t: float) -> None:
    sims, target = unit(0) @ unit(1).T, unit(2) @ unit(3).T
    s, f = sims.tolist(), target.tolist()
    wanted = kl_rows(f, s, t) + kl_rows(transposed(f), transposed(s), t)
    assert float(loss.relation(sims, target, t)) == pytest.approx(wanted, rel=1e-9)
    swapped = kl_rows(s, f, t) + kl_rows(transposed(s), transposed(f), t)
    assert abs(wanted - swapped) > 1e-3 * wanted  # so the order was tested


def test_relation_is_zero_where_the_student_is_the_target() -> None:
    target = (unit(0) @ unit(1).T).requires_grad_()
    value = loss.relation(target, target.detach(), 0.05)
    assert float(value) == pytest.approx(0, abs=1e-12)
    (gradient,) = torch.autograd.grad(value, target)
    assert float(gradient.abs().max()) < 1e-12


def test_relation_ignores_what_softmax_ignores_but_not_the_sides() -> None:
    sims, target = unit(0) @ unit(1).T, unit(2) @ unit(3).T
    assert torch.allclose(loss.relation(sims + 0.3, target, 0.1), loss.relation(sims, target, 0.1))
    assert torch.allclose(
        loss.relation(sims.T, target.T, 0.1), loss.relation(sims, target, 0.1)
    )  # two directions, summed
    assert not torch.allclose(loss.relation(sims.T, target, 0.1), loss.relation(sims, target, 0.1))


def test_the_smallest_temperature_overflows_nowhere() -> None:
    sims = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], requires_grad=True)
    value = loss.relation(sims, -sims.detach(), 0.001)
    (gradient,) = torch.autograd.grad(value, sims)
    assert bool(value.isfinite()) and bool(gradient.isfinite().all())


@pytest.mark.parametrize("t", [0.05, 0.5])
def test_contrastive_is_cross_entropy_in_both_directions(t: float) -> None:
    sims = unit(0) @ unit(1).T
    total = 0.0
    for m in (sims.tolist(), transposed(sims.tolist())):
        total += sum(-math.log(softmax(row, t)[i]) for i, row in enumerate(m)) / N
    assert float(loss.contrastive(sims, t)) == pytest.approx(total, rel=1e-9)


def test_prototype_is_one_minus_cosine_averaged() -> None:
    x, p = unit(0), unit(1)
    wanted = sum(1 - sum(a * b for a, b in zip(x[i], p[i], strict=True)) for i in range(N)) / N
    assert float(loss.prototype(x, p)) == pytest.approx(float(wanted), rel=1e-12)
    assert float(loss.prototype(p, p)) == pytest.approx(0, abs=1e-12)
    both = loss.prototype(torch.stack([x, p]), torch.stack([p, p]))
    assert float(both) == pytest.approx(float(wanted) / 2, rel=1e-12)


def test_the_gradient_of_the_prototype_loss_through_the_normalisation() -> None:
    """d/dx (1 - x.p/|x|) = -(p - cos x/|x|) / |x|, over the number of rows."""
    x = (3 * unit(0)).requires_grad_()
    p = unit(1)
    norm = x.norm(dim=1, keepdim=True)
    (found,) = torch.autograd.grad(loss.prototype(x / norm, p), x)
    unit_x = (x / norm).detach()
    cosine = (unit_x * p).sum(1, keepdim=True)
    assert torch.allclose(found, -(p - cosine * unit_x) / (3 * N))
    assert float((found * x.detach()).sum(1).abs().max()) < 1e-12  # only turns, never stretches


def test_the_gradient_of_relation_is_the_difference_of_the_softmaxes() -> None:
    sims, target, t = (unit(0) @ unit(1).T).requires_grad_(), unit(2) @ unit(3).T, 0.1
    (found,) = torch.autograd.grad(loss.relation(sims, target, t), sims)
    s, f = sims.detach(), target
    rows = ((s / t).softmax(1) - (f / t).softmax(1)) / (N * t)
    columns = ((s / t).softmax(0) - (f / t).softmax(0)) / (N * t)
    assert torch.allclose(found, rows + columns)


def test_gradients_numerically_with_respect_to_descriptors() -> None:
    x, y = (2 * unit(0)).requires_grad_(), (0.5 * unit(1)).requires_grad_()
    target, proto = unit(2) @ unit(3).T, unit(4)

    def cosine(a: Tensor, b: Tensor) -> Tensor:
        return (a / a.norm(dim=1, keepdim=True)) @ (b / b.norm(dim=1, keepdim=True)).T

    functions = (
        lambda a, b: loss.relation(cosine(a, b), target, 0.2),
        lambda a, b: loss.contrastive(cosine(a, b), 0.2),
        lambda a, b: loss.prototype(a / a.norm(dim=1, keepdim=True), proto) + 0 * b.sum(),
    )
    for function in functions:
        assert torch.autograd.gradcheck(function, (x, y))


def test_the_objective_is_the_weighted_sum_in_single_precision() -> None:
    a, b = unit(0), unit(1)
    target, proto = unit(2) @ unit(3).T, torch.stack([unit(4), unit(5)])
    weights = {"relation": 0.5, "prototype": 2.0, "contrastive": 0.25}
    objective = Objective(weights, {"relation": 0.1, "prototype": 9.0, "contrastive": 0.3})
    wanted = (
        0.5 * loss.relation(a @ b.T, target, 0.1)
        + 2.0 * (loss.prototype(a, proto[0]) + loss.prototype(b, proto[1])) / 2
        + 0.25 * loss.contrastive(a @ b.T, 0.3)
    )
    found = objective(a.float(), b.float(), target.float(), proto.float())
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)
    assert (
        objective(a.bfloat16(), b.bfloat16(), target.float(), proto.float()).dtype
        == a.float().dtype
    )
    assert set(train.LOSSES) == set(weights)


def test_what_an_objective_needs() -> None:
    objective = Objective({"relation": 1.0, "contrastive": 0.0}, {"relation": 0.1})
    assert objective.needs("relation")
    assert not objective.needs("contrastive") and not objective.needs("prototype")
