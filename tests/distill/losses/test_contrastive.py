"""InfoNCE against loops in double precision."""

import math

import pytest
from by_loops import N, softmax, transposed, unit

from stages.distill.losses import contrastive


@pytest.mark.parametrize("t", [0.05, 0.5])
def test_contrastive_is_cross_entropy_in_both_directions(t: float) -> None:
    sims = unit(0) @ unit(1).T
    total = 0.0
    for m in (sims.tolist(), transposed(sims.tolist())):
        total += sum(-math.log(softmax(row, t)[i]) for i, row in enumerate(m)) / N
    assert float(contrastive.info_nce(sims, t)) == pytest.approx(total, rel=1e-9)
    assert float(contrastive.loss(unit(0), unit(1), temperature=t)) == pytest.approx(total)
