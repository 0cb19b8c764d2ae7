"""Average precision, precision and recall by hand; the interval of a mean."""

import numpy as np
import pytest

from stages.retrieval import metrics, score_table


def test_positives_first_and_third() -> None:
    """(1 + 1) / 4 + (1/2 + 2/3) / 4: the trapezoids of the benchmark, not the plain mean 5/6."""
    assert metrics.average_precision(np.array([0, 2])) == pytest.approx(0.5 + 7 / 24)
    assert round(metrics.average_precision(np.array([0, 2])), 4) == 0.7917


@pytest.mark.parametrize(
    ("ranks", "expected"),
    # the last: (0/1 + 1/2) / 4 + (1/2 + 2/3) / 4
    [([0], 1), ([0, 1, 2], 1), ([1], 0.25), ([9], 0.05), ([1, 2], 10 / 24)],
)
def test_average_precision_by_hand(ranks: list[int], expected: float) -> None:
    assert metrics.average_precision(np.array(ranks)) == pytest.approx(expected)


def test_junk_is_taken_out_before_ranks_are_counted() -> None:
    found = metrics.without_junk(np.array([8, 2, 5]), np.array([7, 0, 3, 4]))
    assert found.tolist() == [1, 2, 4]
    assert metrics.without_junk(np.array([3, 1]), np.array([], dtype=np.int64)).tolist() == [1, 3]
    assert metrics.without_junk(np.array([], dtype=np.int64), np.array([1])).tolist() == []


def test_precision_where_the_last_positive_comes_before_k() -> None:
    ranks = np.array([0, 2])
    assert metrics.precision_at(ranks, 1) == 1
    assert metrics.precision_at(ranks, 10) == pytest.approx(2 / 3)  # depth 3, not 10
    assert metrics.precision_at(np.array([0, 11]), 10) == pytest.approx(1 / 10)
    assert metrics.precision_at(np.array([4]), 1) == 0


def test_recall_is_the_share_of_queries_with_a_positive_in_the_top() -> None:
    ranks = [np.array([0, 50]), np.array([4]), np.array([5, 6]), np.array([10])]
    found = metrics.scores(ranks)
    assert (found["recall@1"], found["recall@5"], found["recall@10"]) == (25, 50, 75)


def test_labels_of_a_nested_result() -> None:
    nested = {"student": {"all": {"map": 1.0}}, "a": {"raw": {"all": 2}, "whitened": {"all": 3}}}
    assert score_table.flat(nested) == {
        "student": {"all": {"map": 1.0}}, "a raw": {"all": 2}, "a whitened": {"all": 3},
    }  # fmt: skip


def test_the_interval_of_a_mean_has_the_textbook_width() -> None:
    values = np.random.default_rng(0).normal(50, 20, 400)
    low, high = metrics.bootstrap(values, draws=4000)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)
    assert metrics.bootstrap(values, seed=1) == metrics.bootstrap(values, seed=1)
    assert metrics.bootstrap(np.full(5, 3.0)) == (3, 3)
