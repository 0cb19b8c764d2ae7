"""Rows that are read when asked for give what the arrays that they stand for give."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from stages.retrieval.lazy_rows import Joined, Mapped, Picked

SOURCE = np.arange(40, dtype=np.float16).reshape(20, 2)
OTHER = -SOURCE[:7]
SCATTERED = np.array([3, 19, 0, 7, 7])
CASES = {
    "run": (Picked(SOURCE, np.arange(4, 11)), SOURCE[4:11]),
    "scattered": (Picked(SOURCE, SCATTERED), SOURCE[SCATTERED]),
    "none": (Picked(SOURCE, np.zeros(0, int)), SOURCE[:0]),
    "joined": (Joined([SOURCE, OTHER, SOURCE[:1]]), np.concatenate([SOURCE, OTHER, SOURCE[:1]])),
    "with an empty one": (Joined([OTHER[:0], OTHER]), OTHER),
    "computed": (Mapped(lambda a, b: a + 2 * b, SOURCE, SOURCE[::-1]), SOURCE + 2 * SOURCE[::-1]),
    "on top of each other": (
        Mapped(np.negative, Joined([Picked(SOURCE, SCATTERED), OTHER])),
        -np.concatenate([SOURCE[SCATTERED], OTHER]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_slices_and_rows(case: str) -> None:
    rows, expected = CASES[case]
    assert len(rows) == len(expected)
    for step in (1, 3, 100):
        parts = [rows[i : i + step] for i in range(0, max(len(rows), 1), step)]
        assert np.array_equal(np.concatenate(parts), expected)
        assert all(p.shape[1] == 2 for p in parts)
    chosen = np.random.default_rng(0).integers(max(len(rows), 1), size=min(len(rows), 6))
    assert np.array_equal(rows[chosen], expected[chosen])


@given(data=some.data())
@settings(deadline=None)
def test_lazy_rows_are_the_rows_that_numpy_gives(data: some.DataObject) -> None:
    parts = [
        np.random.default_rng(i).standard_normal((n, 3)).astype(np.float32)
        for i, n in enumerate(data.draw(some.lists(some.integers(0, 9), min_size=1, max_size=4)))
    ]
    whole = np.concatenate(parts)
    rows = some.integers(0, max(len(whole) - 1, 0))
    picked = np.array(data.draw(some.lists(rows, max_size=12 if len(whole) else 0)), dtype=np.int64)
    for lazy, plain in ((Joined(parts), whole), (Picked(Joined(parts), picked), whole[picked])):
        assert len(lazy) == len(plain)
        start, stop = (data.draw(some.integers(-12, 40)) for _ in range(2))
        assert np.array_equal(lazy[start:stop], plain[start:stop])
        doubled = Mapped(lambda x: 2 * x, lazy)
        if len(plain):
            some_rows = np.array(
                data.draw(some.lists(some.integers(0, len(plain) - 1), min_size=1))
            )
            assert np.array_equal(doubled[some_rows], 2 * plain[some_rows])
