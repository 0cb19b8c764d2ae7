"""The learning rate: half a cosine a run, by hand."""

import pytest

from stages.distill.schedule import rate


def test_rate_at_known_places() -> None:
    assert rate(0, 100, 1e-3, 1e-6) == pytest.approx(1e-3)
    assert rate(50, 100, 1e-3, 1e-6) == pytest.approx((1e-3 + 1e-6) / 2)
    assert rate(100, 100, 1e-3, 1e-6) == pytest.approx(1e-6)
    # cos 60 degrees is a half: three quarters of the way up after a third of the steps.
    assert rate(1, 3, 1.0, 0.0) == pytest.approx(0.75)
    assert rate(2, 3, 1.0, 0.0) == pytest.approx(0.25)


def test_rate_only_falls_and_stays_between_its_ends() -> None:
    values = [rate(s, 37, 5e-4, 1e-6) for s in range(38)]
    assert all(a > b for a, b in zip(values, values[1:], strict=False))
    assert values[0] == pytest.approx(5e-4) and values[-1] == pytest.approx(1e-6)


def test_no_steps_is_the_first_rate() -> None:
    assert rate(0, 0, 0.1, 0.01) == pytest.approx(0.1)
