"""Who wins the max and the min, and what the offline method costs, against hand counts."""

import numpy as np
import pytest

from stages.distill import fusion
from stages.tools.cost import budget
from stages.tools.report import winners


def test_hand_counted_batch() -> None:
    a = np.array([[0.9, 0.1], [0.2, 0.3]], dtype=np.float32)
    b = np.array([[0.5, 0.0], [0.4, 0.8]], dtype=np.float32)
    won = winners.count([np.stack([a, b])])
    assert (won.positives, won.negatives) == (2, 2)
    np.testing.assert_allclose(won.highest, [0.5, 0.5])  # 0.9 by a, 0.8 by b
    np.testing.assert_allclose(won.lowest, [0.5, 0.5])  # 0.0 by b, 0.2 by a
    np.testing.assert_allclose(won.positive, [0.6, 0.65])
    np.testing.assert_allclose(won.negative, [0.15, 0.2])


def test_winners_are_whose_values_the_target_holds() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.random((3, 8, 8)).astype(np.float32) for _ in range(5)]
    won = winners.count(batches)
    eye = np.eye(8, dtype=bool)
    held = [(b == fusion.maxmin(b, rng)) for b in batches]
    highest = np.sum([h[:, eye].sum(1) for h in held], axis=0) / 40
    lowest = np.sum([h[:, ~eye].sum(1) for h in held], axis=0) / (5 * 56)
    np.testing.assert_allclose(won.highest, highest)
    np.testing.assert_allclose(won.lowest, lowest)


def test_no_batches() -> None:
    assert winners.count([]).positives == 0


def test_passes_and_break_even_by_hand() -> None:
    passes = budget.passes(teachers=3, views=100, batch=10, steps=20)
    assert (passes.offline, passes.online, passes.saved) == (300, 1200, 900)
    assert budget.passes(teachers=1, views=100, batch=2, steps=1).saved == -96
    # T=2, D=512: equal at a batch of 2048 for views that are used once, 8 uses at 256
    assert budget.break_even([512, 512], 2048) == 1
    assert budget.break_even([512, 512], 256) == 8


@pytest.mark.parametrize("batch", [16, 128])
def test_break_even_is_where_the_bytes_meet(batch: int) -> None:
    views, dims = 6400, [96, 96, 64]
    meet = budget.break_even(dims, batch)
    steps = round(meet * views / (2 * batch))
    matrices = budget.shard_bytes(batch=batch, steps=steps) - 8 * batch * steps  # without the plan
    assert matrices == pytest.approx(budget.feature_bytes(views, dims), rel=0.01)
    assert budget.uses(views=views, batch=batch, steps=steps) == pytest.approx(meet, rel=0.01)
