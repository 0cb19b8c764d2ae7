"""The probe's one number is the metric of the network's own descriptors."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.core.errors import UserError
from stages.retrieval.validation import Probe

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
    assert probe()(net) == pytest.approx(100 * float(np.mean(values)), abs=1e-4)


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
        assert probe()(net) == probe()(net)
        assert net.training is training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_only_the_queries_ask() -> None:
    wanted = [{"positive": np.array([3, 7]), "junk": np.array([0])}]
    found = Probe(IMAGES, np.array([0]), wanted)(Net())
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
