"""The sample that the choice of whitening is measured on: its halves, its bounds, its precision."""

import tracemalloc

import numpy as np
import pytest

from stages.distill import leave_one_out
from stages.distill.leave_one_out import LeaveOneOut, Sample


def rows_of(groups: int, images: int, views: int) -> tuple[np.ndarray, np.ndarray]:
    image = np.repeat(np.arange(groups * images), views)
    return image // images, image


def test_halves_hold_every_row_once_and_no_group_twice() -> None:
    group, image = rows_of(30, 3, 2)
    group = np.where(group % 7 == 0, -1, group)
    first, second = leave_one_out.halves(group, image, bound=10_000, seed=0)
    both = np.concatenate([first.row, second.row])
    assert sorted(both.tolist()) == np.flatnonzero(group >= 0).tolist()
    assert not set(group[first.row]) & set(group[second.row])
    for half in (first, second):
        assert (np.diff(half.unit) >= 0).all() and half.unit[0] == 0
        assert len(set(zip(half.unit.tolist(), group[half.row].tolist(), strict=True))) == len(
            set(half.unit.tolist())
        )
        runs = 1 + int((np.diff(half.item) != 0).sum())
        assert runs == len(set(half.item.tolist()))  # an item's rows stand together


@pytest.mark.parametrize("bound", [5000, 1000, 400, 200, 60])
def test_a_bound_holds_and_costs_views_and_images_before_groups(bound: int) -> None:
    group, image = rows_of(40, 12, 8)
    half, _ = leave_one_out.halves(group, image, bound=bound, seed=0)
    assert len(half.row) <= bound
    per_group = np.bincount(half.unit)
    assert per_group.min() == per_group.max() >= 2
    if bound >= 40:  # two images of each of the 20 groups fit
        assert len(per_group) == 20
    assert all(len(set(half.item[half.unit == u].tolist())) >= 2 for u in range(len(per_group)))


def test_ids_of_groups_may_be_any_numbers() -> None:
    """The dataset `folder` makes them of names: up to 2^31, which no table may be as long as."""
    group, image = rows_of(30, 3, 2)
    large = np.sort(np.random.default_rng(0).integers(2**31 - 1, size=30)).astype(np.int32)[group]
    tracemalloc.start()
    found = leave_one_out.halves(large, image, bound=10_000, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    for half, wanted in zip(
        found, leave_one_out.halves(group, image, bound=10_000, seed=0), strict=True
    ):
        assert all(np.array_equal(a, b) for a, b in zip(
            vars(half).values(), vars(wanted).values(), strict=True))  # fmt: skip


def test_units_are_groups_where_there_are_enough_else_images() -> None:
    group, image = rows_of(20, 2, 2)
    assert leave_one_out.units(group, image)[2] == "groups"
    assert leave_one_out.units(np.where(group < 9, group, -1), image)[2] == "images"
    assert leave_one_out.units(group, np.arange(len(group)) * 0 + group)[2] == "images"
    assert leave_one_out.units(np.full(40, -1), np.arange(40))[2] == ""


def test_precision_by_hand() -> None:
    """Three images of one unit, the second with two views, and two single ones of another."""
    sample = Sample(np.arange(6), np.array([0, 0, 0, 0, 1, 1]), np.array([0, 1, 1, 2, 3, 4]))
    ask = LeaveOneOut(sample, 100)
    assert ask.query.tolist() == [0, 1, 3, 4, 5]
    similarity = np.array(
        [
            [1.0, 0.9, 0.8, 0.2, 0.5, 0.1],  # positives at 1, 2, 4: (1 + 1 + 3/4) / 3
            [0.3, 1.0, 0.9, 0.4, 0.1, 0.35],  # 0.4 and 0.3, one between: (1 + 2/3) / 2
            [0.2, 0.3, 0.3, 1.0, 0.1, 0.3],  # a tie counts against: 2 of 0.3 after 1, then 0.2
            [0.1, 0.2, 0.3, 0.4, 1.0, 0.5],  # 1
            [0.1, 0.2, 0.3, 0.6, 0.5, 1.0],  # 1 / 2
        ],
        dtype=np.float32,
    )
    first = [(1 + 1 + 3 / 4) / 3, (1 + 2 / 3) / 2, (1 / 2 + 2 / 3 + 3 / 4) / 3]
    wanted = 100 * (np.mean(first) + np.mean([1, 0.5])) / 2
    assert ask(similarity) == pytest.approx(wanted)


def test_fewer_queries_are_whole_units() -> None:
    group, image = rows_of(30, 4, 1)
    half, _ = leave_one_out.halves(group, image, bound=1000, seed=0)
    ask = LeaveOneOut(half, 12)
    assert len(ask.query) <= 12 and len(set(half.unit[ask.query].tolist())) >= 3
