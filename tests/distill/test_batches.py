"""The plan of batches: each group once a batch, true pairs, all views used alike."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as some

from stages.distill import batches

Plan = list[tuple[np.ndarray, np.ndarray]]
GROUP = np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3, -1, -1, 4, 4], np.int32)
VIEWS = np.array([3, 2, 4, 1, 2, 2, 1, 1, 1, 1, 3, 2, 5, 5])
SPANS = np.r_[0, np.cumsum(VIEWS)]
IMAGE = np.repeat(np.arange(len(GROUP)), VIEWS)  # of each view row
UNIT = np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 5, 6, 4, 4])  # 7 units: -1 stands alone


def plan(epochs: int = 40, batch: int = 3, seed: int = 0) -> Plan:
    return list(batches.plan(GROUP, SPANS, batch=batch, epochs=epochs, seed=seed))


def test_units_are_groups_and_lone_images() -> None:
    found = batches.units(GROUP)
    same = found[:, None] == found[None]
    assert np.array_equal(same, UNIT[:, None] == UNIT[None])
    assert sorted(set(found.tolist())) == list(range(7))
    assert batches.units(np.full(3, -1)).tolist() == [0, 1, 2]
    assert batches.units(np.array([9, 3, 9, -1])).tolist() == [1, 0, 1, 2]


def test_shapes_and_the_tail_that_fills_no_batch_is_left_out() -> None:
    for batch, steps in ((2, 3), (3, 2), (7, 1)):
        for anchor, positive in plan(3, batch):
            assert anchor.shape == positive.shape == (steps, batch)
            assert anchor.dtype == positive.dtype == np.int32


def test_each_group_once_an_epoch_and_so_once_a_batch() -> None:
    for anchor, positive in plan():
        for rows in (anchor, positive):
            units = UNIT[IMAGE[rows]].reshape(-1)
            assert len(set(units.tolist())) == len(units)


def test_row_i_of_both_shows_the_same_in_two_images_or_two_views() -> None:
    for anchor, positive in plan(200):
        a, b = IMAGE[anchor], IMAGE[positive]
        assert np.array_equal(UNIT[a], UNIT[b])
        several = np.bincount(UNIT)[UNIT[a]] > 1
        assert (a[several] != b[several]).all()
        assert (a[~several] == b[~several]).all()
        assert (anchor[~several] != positive[~several]).all()


def test_every_epoch_is_another_permutation_and_leaves_out_others() -> None:
    left_out = [
        set(range(7)) - set(UNIT[IMAGE[anchor]].reshape(-1).tolist()) for anchor, _ in plan(60)
    ]
    assert all(len(x) == 1 for x in left_out)
    assert set.union(*left_out) == set(range(7))
    orders = {UNIT[IMAGE[anchor]].tobytes() for anchor, _ in plan(60)}
    assert len(orders) > 50


def test_all_ordered_pairs_of_a_group_are_about_as_frequent() -> None:
    counts = np.zeros((4, 4))
    for anchor, positive in plan(2400, 7):
        a, b = IMAGE[anchor].reshape(-1), IMAGE[positive].reshape(-1)
        four = UNIT[a] == 3
        np.add.at(counts, (a[four] - 6, b[four] - 6), 1)
    assert counts.trace() == 0
    off = counts[~np.eye(4, dtype=bool)]
    assert off.min() > 140 and off.max() < 260  # 200 each, sigma 14


def test_the_views_of_a_image_take_turns() -> None:
    used = np.zeros(len(IMAGE), int)
    for anchor, positive in plan(50):
        np.add.at(used, np.r_[anchor.reshape(-1), positive.reshape(-1)], 1)
    for first, last in zip(SPANS, SPANS[1:], strict=False):
        assert used[first:last].max() - used[first:last].min() <= 1
    assert used.min() > 0


def test_an_epoch_does_not_depend_on_how_many_follow() -> None:
    for short, long in zip(plan(4), plan(9), strict=False):
        assert np.array_equal(short, long)


def test_the_seed_decides_and_nothing_else() -> None:
    assert np.array_equal(np.array(plan(5)), np.array(plan(5)))
    assert not np.array_equal(np.array(plan(5)), np.array(plan(5, seed=1)))


def test_arguments_are_not_changed() -> None:
    group, spans = GROUP.copy(), SPANS.copy()
    list(batches.plan(group, spans, batch=3, epochs=3, seed=0))
    assert np.array_equal(group, GROUP) and np.array_equal(spans, SPANS)


def test_no_batch_where_there_are_too_few_groups() -> None:
    (anchor, positive), *_ = plan(1, batch=8)
    assert anchor.shape == positive.shape == (0, 8)


@given(
    sizes=some.lists(some.integers(1, 6), min_size=2, max_size=12),
    alone=some.integers(0, 5), batch=some.integers(1, 6), seed=some.integers(0, 99),
)  # fmt: skip
@settings(deadline=None)
def test_any_groups_make_sound_batches(sizes: list[int], alone: int, batch: int, seed: int) -> None:
    group = np.array([g for g, n in enumerate(sizes) for _ in range(n)] + [-1] * alone)
    counts = np.where(np.bincount(batches.units(group))[batches.units(group)] == 1, 2, 1)
    spans = np.concatenate([[0], np.cumsum(counts)])
    image = np.repeat(np.arange(len(group)), counts)
    unit = batches.units(group)[image]
    for anchor, positive in batches.plan(group, spans, batch=batch, epochs=2, seed=seed):
        assert anchor.shape == positive.shape == ((len(sizes) + alone) // batch, batch)
        assert np.array_equal(unit[anchor], unit[positive]) and (anchor != positive).all()
        used = unit[anchor].ravel()
        assert len(set(used.tolist())) == len(used)  # each group once an epoch
