"""The prototype loss against loops in double precision, and its gradient by hand."""

import pytest
import torch
from by_loops import N, unit

from stages.distill.losses import prototype


def test_prototype_is_one_minus_cosine_averaged() -> None:
    x, p = unit(0), unit(1)
    wanted = sum(1 - sum(a * b for a, b in zip(x[i], p[i], strict=True)) for i in range(N)) / N
    assert float(prototype.distance(x, p)) == pytest.approx(float(wanted), rel=1e-12)
    assert float(prototype.distance(p, p)) == pytest.approx(0, abs=1e-12)
    both = prototype.distance(torch.stack([x, p]), torch.stack([p, p]))
    assert float(both) == pytest.approx(float(wanted) / 2, rel=1e-12)
    assert float(prototype.loss(x, p, prototype=torch.stack([p, p]))) == float(both)


def test_the_gradient_of_the_prototype_loss_through_the_normalisation() -> None:
    """d/dx (1 - x.p/|x|) = -(p - cos x/|x|) / |x|, over the number of rows."""
    x = (3 * unit(0)).requires_grad_()
    p = unit(1)
    norm = x.norm(dim=1, keepdim=True)
    (found,) = torch.autograd.grad(prototype.distance(x / norm, p), x)
    unit_x = (x / norm).detach()
    cosine = (unit_x * p).sum(1, keepdim=True)
    assert torch.allclose(found, -(p - cosine * unit_x) / (3 * N))
    assert float((found * x.detach()).sum(1).abs().max()) < 1e-12  # only turns, never stretches
