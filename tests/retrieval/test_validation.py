"""The probe's one number is the metric of the network's own descriptors."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.core.errors import UserError
from stages.retrieval.validation import Probe, Score

torch.set_num_threads(1)
RNG = np.random.default_rng(0)
SHAPES = [(12, 16), (16, 12), (12, 16), (14, 14), (12, 16), (16, 12), (14, 14), (12, 16)]
IMAGES = [RNG.integers(0, 256, (*s, 3), dtype=np.uint8) for s in SHAPES]
GROUP = np.array([0, 1, 1, 0, 2, 2, 2, 0])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)
        self.drop = nn.Dropout(0.9)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.norm(self.conv(x))).mean((-2, -1)).double().float()


def by_hand(net: nn.Module) -> np.ndarray:
    """Descriptors one image at a time, in eval mode."""
    net.eval()
    rows = []
    with torch.inference_mode():
        for image in IMAGES:
            y = net(torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None])[0]
            rows.append(y.double().numpy() / np.linalg.norm(y.double().numpy()))
    return np.array(rows)


def probe(batch: int = 64) -> Probe:
    query = np.arange(8)
    wanted = [
        {"positive": np.flatnonzero((GROUP[q] == GROUP) & (query != q)), "junk": np.array([q])}
        for q in query
    ]
    return Probe(IMAGES, query, wanted, batch)


def test_map_as_by_hand() -> None:
    net = Net()
    x = by_hand(net)
    values = []
    for q in range(8):
        order = sorted((i for i in range(8) if i != q), key=lambda i: (-float(x[i] @ x[q]), i))
        places = [r for r, i in enumerate(order) if GROUP[i] == GROUP[q]]
        steps = [
            ((j / r if r else 1.0) + (j + 1) / (r + 1)) / (2 * len(places))
            for j, r in enumerate(places)
        ]
        values.append(sum(steps))
    assert probe()(net).map == pytest.approx(100 * float(np.mean(values)), abs=1e-4)


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_descriptors_are_in_the_order_of_the_images(batch: int) -> None:
    net = Net()
    wanted = by_hand(net)
    assert np.allclose(probe(batch).descriptors(net), wanted, atol=1e-5)


def test_measuring_changes_neither_mode_nor_statistics() -> None:
    net = Net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for training in (True, False):
        net.train(training)
        assert probe()(net).map == probe()(net).map
        assert net.training is training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_only_the_queries_ask() -> None:
    wanted = [{"positive": np.array([3, 7]), "junk": np.array([0])}]
    found = Probe(IMAGES, np.array([0]), wanted)(Net()).map
    x = by_hand(Net())
    order = sorted(range(1, 8), key=lambda i: -float(x[i] @ x[0]))
    a, b = sorted((order.index(3), order.index(7)))
    ap = ((0 if a else 1) + 1 / (a + 1)) / 4 + (1 / b + 2 / (b + 1)) / 4
    assert found == pytest.approx(100 * ap, abs=1e-4)


def test_a_training_that_diverged_stops_and_says_so() -> None:
    net = Net()
    with torch.no_grad():
        net.conv.weight.fill_(np.nan)
    with pytest.raises(UserError, match="image 0.*the training has diverged: lower train.lr"):
        probe()(net)


def by_pairs(asking: np.ndarray, searched: np.ndarray, own: list[int]) -> list[float]:
    """AP in percent of each crop, its own image out of the ranking, one image after the other."""
    out = []
    for x, mine in zip(asking, own, strict=True):
        rivals = [i for i in range(len(searched)) if i != mine]
        order = sorted(rivals, key=lambda i: (-float(searched[i] @ x), i))
        right = [GROUP[i] == GROUP[mine] for i in order]
        total, found = 0.0, 0
        for place, good in enumerate(right):
            if good:
                before = found / place if place else 1.0
                found += 1
                total += (before + found / (place + 1)) / 2
        out.append(100 * total / found)
    return out


def lists_of(rows: list[int]) -> list[dict[str, np.ndarray]]:
    every = np.arange(8)
    return [
        {"positive": np.flatnonzero((GROUP[q] == GROUP) & (every != q)), "junk": np.array([q])}
        for q in rows
    ]


def test_crops_ask_and_whole_images_are_searched() -> None:
    rows = [0, 0, 3, 5, 6]  # two crops of one image, none of some
    crops = [RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8) for _ in rows]
    probe = Probe(IMAGES, np.array(rows), lists_of(rows), crops=crops)
    net = Net()
    described = probe.descriptors(net.eval())
    assert np.allclose(described[:8], by_hand(net), atol=1e-5)
    score = probe(net)
    assert np.allclose(score.ap, by_pairs(described[8:], described[:8], rows), atol=1e-9)
    assert score.group.tolist() == [0, 0, 0, 4, 4]
    assert score.map == pytest.approx(score.ap.mean(), abs=1e-4)


def test_crops_of_videos_are_those_of_their_frames() -> None:
    start = np.array([0, 2, 3, 6, 8])  # four videos, two groups
    lists = [{"positive": np.array([j]), "junk": np.array([i])} for i, j in enumerate((1, 0, 3, 2))]
    rows = np.array([2, 0])
    frames = [*range(3, 6), *range(0, 2)]
    crops = [RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8) for _ in frames]
    probe = Probe(IMAGES, rows, [lists[2], lists[0]], start=start, crops=crops)
    net = Net()
    x = probe.descriptors(net.eval())
    wanted = []
    for own, asking, positive in ((2, x[8:11], 3), (0, x[11:13], 1)):
        sims = [
            np.mean([max(float(a @ b) for b in x[start[v] : start[v + 1]]) for a in asking])
            for v in range(4)
        ]
        place = sum(sims[v] > sims[positive] for v in range(4) if v != own)
        wanted.append(100 * ((1.0 if place == 0 else 0.0) + 1 / (place + 1)) / 2)
    assert np.allclose(probe(net).ap, wanted)


def test_the_error_over_groups_as_the_spread_of_their_means() -> None:
    rng = np.random.default_rng(3)
    level = rng.uniform(20, 80, 30)
    ap, group = np.repeat(level, 5), np.repeat(np.arange(30), 5)
    score = Score(ap, group)
    assert score.error == pytest.approx(level.std(ddof=1) / np.sqrt(30), rel=0.08)
    assert score.error == Score(ap, group).error  # the same draws every time
    assert score.map == pytest.approx(level.mean(), abs=1e-3)


def test_what_is_hard_for_both_networks_is_no_doubt() -> None:
    rng = np.random.default_rng(4)
    group = np.repeat(np.arange(10), 4)
    hard = rng.uniform(0, 90, 10)[group]
    gain, error = Score(hard + 2, group).gain_over(Score(hard, group))
    assert gain == pytest.approx(2) and error == pytest.approx(0, abs=1e-9)
    assert Score(hard, group).error > 5


def test_groups_of_unequal_size_as_drawn_one_by_one() -> None:
    rng = np.random.default_rng(5)
    group = np.array([0] * 9 + [1] * 2 + [2] + [3] * 5 + [4] * 3)
    ap = rng.uniform(0, 100, len(group))
    means = []
    for _ in range(4000):
        taken = np.concatenate([ap[group == g] for g in rng.integers(0, 5, 5)])
        means.append(taken.mean())
    assert Score(ap, group).error == pytest.approx(np.std(means) * np.sqrt(5 / 4), rel=0.1)
    assert Score(ap[:9], group[:9]).error == np.inf
