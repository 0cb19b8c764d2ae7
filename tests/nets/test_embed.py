"""Several scales summed as by hand, and batches that cover every image once."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.images.rendering import batches_by_shape
from stages.nets.embed import describe

torch.set_num_threads(1)


class Small(nn.Module):
    """A descriptor that depends on the size of its input; it remembers the sizes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 3)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape[-2:]))
        return self.conv(x).amax((-2, -1))


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True)


def pixels(h: int = 40, w: int = 61) -> Tensor:
    return torch.rand(2, 3, h, w, generator=torch.Generator().manual_seed(0))


def test_scales_are_normalised_summed_normalised() -> None:
    net, x = Small(), pixels()
    with torch.inference_mode():
        found = describe(net, x, [1.0, 0.7071067811865476, 0.5])
        assert net.seen == [(40, 61), (28, 43), (20, 30)]
        total = unit(net(x))
        for shape in ((28, 43), (20, 30)):
            small = F.interpolate(x, shape, mode="bilinear", align_corners=False)
            total = total + unit(net(small))
        assert torch.allclose(found, unit(total), atol=1e-6)
    assert torch.allclose(found.norm(dim=1), torch.ones(2))


def test_halving_bilinearly_is_the_mean_of_four_pixels() -> None:
    x = pixels(8, 12)
    seen = []

    class Look(nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            seen.append(y)
            return y.flatten(1)

    describe(Look(), x, [0.5])
    wanted = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
    assert torch.allclose(seen[0], wanted, atol=1e-6)


def test_one_scale_is_the_network_itself_normalised() -> None:
    net, x = Small(), pixels()
    with torch.inference_mode():
        assert torch.allclose(describe(net, x, [1]), unit(net(x)), atol=1e-6)


def test_half_precision_networks_are_summed_in_single() -> None:
    net = Small().bfloat16()
    with torch.inference_mode():
        found = describe(net, pixels().bfloat16(), [1, 0.5])
    assert found.dtype == torch.float32
    assert torch.allclose(found.norm(dim=1), torch.ones(2), atol=1e-5)


def test_a_image_of_one_pixel_stays_one() -> None:
    seen = []

    class Look(nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            seen.append(tuple(y.shape[-2:]))
            return y.mean((-2, -1))

    describe(Look(), torch.rand(1, 3, 1, 9), [0.1])
    assert seen == [(1, 1)]


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_batches_cover_every_row_once_and_are_of_one_shape(most: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [tuple(s) for s in torch.randint(1, 4, (50, 2), generator=generator).tolist()]
    batches = batches_by_shape(shapes, most)  # type: ignore[arg-type]
    assert sorted(i for b in batches for i in b) == list(range(50))
    for batch in batches:
        assert 1 <= len(batch) <= most
        assert len({shapes[i] for i in batch}) == 1
    smallest = sum(-(-shapes.count(s) // most) for s in set(shapes))
    assert len(batches) == smallest
    assert batches == batches_by_shape(shapes, most)  # type: ignore[arg-type]
    assert batches_by_shape([], most) == []
