"""Similarities of videos against slow oracles in float64, one pair and one frame at a time."""

import numpy as np
import pytest

from stages.retrieval import rank, video
from stages.retrieval.benchmark import mapped
from stages.retrieval.video import Clips

RNG = np.random.default_rng(0)
DIM = 7


def clips(lengths: list[int], dtype: type = np.float32) -> Clips:
    frame = RNG.standard_normal((sum(lengths), DIM))
    frame /= np.linalg.norm(frame, axis=1, keepdims=True)
    start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Clips(frame.astype(dtype), start)


def frames(c: Clips, i: int) -> np.ndarray:
    return c.rows[c.start[i] : c.start[i + 1]].astype(np.float64)


def oracle(kind: str, u: np.ndarray, v: np.ndarray) -> float:
    pairs = [[float(sum(a * b)) for b in v] for a in u]
    if kind == "chamfer":
        return sum(max(row) for row in pairs) / len(pairs)
    if kind == "max":
        return max(max(row) for row in pairs)
    if kind == "mean":
        return sum(sum(row) for row in pairs) / (len(u) * len(v))
    pool = (lambda x: x.mean(0)) if kind == "mean_pooled" else (lambda x: x.max(0))
    a, b = pool(u), pool(v)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


QUERY = clips([1, 3, 60, 2, 1])
DATABASE = clips([2, 1, 1, 9, 60, 4, 1, 17, 3, 1], np.float16)


@pytest.mark.parametrize("kind", video.KINDS)
def test_every_kind_agrees_with_its_oracle(kind: str) -> None:
    found = video.similarities(QUERY, DATABASE, kind)
    wanted = [
        [oracle(kind, frames(QUERY, i), frames(DATABASE, j)) for j in range(len(DATABASE))]
        for i in range(len(QUERY))
    ]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.parametrize("kind", video.KINDS)
@pytest.mark.parametrize("block", [1, 2, 5, 61, 1000])
def test_blocks_change_nothing(kind: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = video.similarities(QUERY, DATABASE, kind)
    monkeypatch.setattr(video.Clips.blocks, "__defaults__", (block,))
    monkeypatch.setattr(video, "_query_frames", lambda: block)
    np.testing.assert_allclose(video.similarities(QUERY, DATABASE, kind), wanted, atol=1e-6)


def test_chamfer_goes_from_query_to_candidate() -> None:
    """A part of a video is all in the whole; the whole is not all in the part."""
    whole = clips([5])
    part = Clips(whole.rows[1:3], np.array([0, 2]))
    assert video.similarities(part, whole, "chamfer")[0, 0] == pytest.approx(1, abs=1e-6)
    assert video.similarities(whole, part, "chamfer")[0, 0] < 0.9


def test_only_some_of_the_database() -> None:
    wanted = video.similarities(QUERY, DATABASE, "chamfer")
    for rows in ([0, 3, 4, 9], [5], [], list(range(10))):
        some = video.similarities(QUERY, DATABASE, "chamfer", np.array(rows, dtype=np.int64))
        assert np.array_equal(some, wanted[:, rows])


def test_some_videos_and_computed_frames() -> None:
    part = DATABASE.take(np.array([4, 0, 4]))
    assert np.diff(part.start).tolist() == [60, 2, 60]
    assert np.array_equal(frames(part, 2), frames(DATABASE, 4))
    read: list[int] = []

    def double(x: np.ndarray) -> np.ndarray:
        read.append(len(x))
        return 2 * x.astype(np.float32)

    twice = mapped(double, DATABASE)
    assert not read  # nothing is read before it is asked for
    both = mapped(lambda a, b: np.concatenate([a, b], 1), twice, DATABASE)
    first, x, _ = next(both.blocks(1000))
    assert x.shape == (DATABASE.start[-1], 2 * DIM) and first == 0
    np.testing.assert_allclose(x[:, :DIM], 2 * x[:, DIM:], rtol=1e-6)
    taken = mapped(double, DATABASE.take(np.array([3, 1])))
    assert np.array_equal(taken.rows[:9], 2 * frames(DATABASE, 3).astype(np.float32))


LISTS = [
    {"positive": np.array([1, 4]), "negative": np.array([2])},
    {"positive": np.array([4]), "negative": np.array([], dtype=np.int64)},
    {"positive": np.array([7]), "negative": np.array([8, 1])},
]


def test_candidates_are_the_own_labelled_and_all_unlabelled() -> None:
    sims = rank.masked(np.zeros((3, 10), np.float32), LISTS, rank.labelled(LISTS))
    unlabelled = {0, 3, 5, 6, 9}
    for row, own in zip(sims, ({1, 2, 4}, {4}, {1, 7, 8}), strict=True):
        assert set(np.flatnonzero(row == 0).tolist()) == unlabelled | own


def test_ranks_against_a_sort() -> None:
    sims = RNG.standard_normal((3, 10)).astype(np.float32).round(1)  # with ties
    masked = rank.masked(sims.copy(), LISTS, rank.labelled(LISTS))
    for row, found, own in zip(masked, video.ranks(masked, LISTS), LISTS, strict=True):
        order = sorted(range(10), key=lambda i: (-row[i], i))
        for name, rows in own.items():
            assert found[name].tolist() == [order.index(r) for r in rows]
