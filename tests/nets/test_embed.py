"""Several scales summed as by hand; the one loop; batches that cover every image once."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.core.errors import UserError
from stages.images.rendering import batches_by_shape
from stages.nets.embed import as_input, describe, descriptors

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


def test_an_image_of_one_pixel_stays_one() -> None:
    seen = []

    class Look(nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            seen.append(tuple(y.shape[-2:]))
            return y.mean((-2, -1))

    describe(Look(), torch.rand(1, 3, 1, 9), [0.1])
    assert seen == [(1, 1)]


IMAGES = np.random.default_rng(0).integers(0, 256, (7, 20, 20, 3), np.uint8)
JOBS = [[0, 1, 2], [3], [6, 5, 4]]


def load(rows: list[int]) -> np.ndarray:
    return IMAGES[rows]


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("most", [None, 1, 2])
def test_the_loop_gives_each_job_its_rows_in_order(processes: int, most: int | None) -> None:
    net = Small()
    found = list(descriptors(net, load, JOBS, scales=[1, 0.5], most=most, processes=processes))
    assert [job for job, _ in found] == JOBS
    with torch.inference_mode():
        x = as_input(torch.from_numpy(IMAGES), torch.device("cpu"))
        wanted = torch.cat([describe(net, x[i : i + 1], [1, 0.5]) for i in range(7)]).numpy()
    for job, rows in found:
        assert rows.dtype == np.float32
        assert np.allclose(rows, wanted[job], atol=1e-6)


def test_the_loop_stores_float16_and_leaves_the_callers_modes_alone() -> None:
    net = Small()
    exact = np.concatenate([rows for _, rows in descriptors(net, load, JOBS, processes=0)])
    found = descriptors(net, load, JOBS, half=True, processes=0)
    _, first = next(found)
    assert not torch.is_inference_mode_enabled()  # between two jobs the caller may learn
    rest = [rows for _, rows in found]
    assert (np.concatenate([first, *rest]) == exact.astype(np.float16)).all()


def test_without_scales_a_row_is_what_the_network_gives() -> None:
    net, cpu = Small(), torch.device("cpu")
    _, rows = next(descriptors(net.forward, load, JOBS, scales=None, device=cpu, processes=0))
    with torch.inference_mode():
        assert (rows == net(as_input(torch.from_numpy(IMAGES[:3]), cpu)).numpy()).all()


def test_half_precision_is_near_and_not_the_same() -> None:
    net = Small()
    single, lower = (
        np.concatenate([r for _, r in descriptors(net, load, JOBS, precision=p, processes=0)])
        for p in ("float32", "bfloat16")
    )
    assert 0 < np.abs(single - lower).max() < 0.02


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_no_number_stops_the_loop_and_names_its_image(value: float) -> None:
    class Broken(Small):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return torch.where(x.mean((1, 2, 3)) > 0.9, value, y.T).T  # of bright images

    images = IMAGES.copy()
    images[5] = 255
    loop = descriptors(
        Broken(), lambda rows: images[rows], JOBS, processes=0, label="a", scales=None,
        name=lambda job, row: f"{job[row]}.jpg", advice="mend it",
    )  # fmt: skip
    with pytest.raises(UserError) as caught:
        list(loop)
    assert str(caught.value) == (
        "a: NaN or infinity in the descriptors of 1 of 3 images, the first: 5.jpg; mend it"
    )


def test_what_loading_refuses_is_told_as_it_is() -> None:
    def refuse(rows: list[int]) -> np.ndarray:
        raise UserError("5.jpg: no such image")

    with pytest.raises(UserError, match="5.jpg: no such image"):
        list(descriptors(Small(), refuse, JOBS, processes=0))


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


class Colours(nn.Module):
    """A teacher by hand, without a single weight: mean colours."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-2, -1))


def test_a_network_without_weights_describes() -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (3, 8, 9, 3), dtype=np.uint8)
    found = descriptors(Colours(), lambda job: pixels[job], [[0, 1], [2]], processes=0)
    rows = np.concatenate([r for _, r in found])
    wanted = pixels.mean((1, 2)) / np.linalg.norm(pixels.mean((1, 2)), axis=1, keepdims=True)
    np.testing.assert_allclose(rows, wanted, atol=1e-5)
