"""Sums over many values in half precision are done in float32."""

import numpy as np
import pytest
import torch
from torch import nn

from stages.nets import embed, layers
from stages.teachers.dolg import orthogonal

HALF = [torch.float16, torch.bfloat16]
STRONG = torch.rand(2, 8, 16, 16, generator=torch.Generator().manual_seed(0)) * 60 + 30


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("p", [1.0, 3.0, 6.5, torch.tensor([3.0])])
def test_gem_of_strong_responses_is_that_of_float32(dtype: torch.dtype, p: float) -> None:
    half = STRONG.to(dtype)
    found = layers.gem(half, p)
    assert found.dtype == torch.float32
    assert torch.equal(found, layers.gem(half.float(), p)) and torch.isfinite(found).all()


@pytest.mark.parametrize("dtype", HALF)
def test_means_and_lengths_too(dtype: torch.dtype) -> None:
    half = (STRONG * 600).to(dtype)
    assert torch.equal(layers.mean(half), half.float().mean((-2, -1)))
    rows = half.flatten(1)
    assert torch.allclose(layers.l2n(rows).norm(dim=1), torch.ones(2))
    tiny = torch.full((2, 5), 1e-7, dtype=dtype)
    assert torch.allclose(layers.l2n(tiny).norm(dim=1), torch.ones(2))
    assert not layers.l2n(torch.zeros(1, 4, dtype=dtype)).any()
    assert torch.isfinite(orthogonal(half, STRONG[:, :, 0, 0].to(dtype) * 600)).all()


def test_float32_and_float64_stay_as_they_are() -> None:
    for dtype in (torch.float32, torch.float64):
        x = STRONG.to(dtype)
        assert layers.gem(x, 3.0).dtype == dtype and layers.l2n(x).dtype == dtype
        assert torch.equal(layers.gem(x, 3.0), x.clamp(min=1e-6).pow(3).mean((-2, -1)).pow(1 / 3))


class Strong(nn.Module):
    """A convolution whose responses are 30 to 60, then GeM."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 1)
        nn.init.constant_(self.convolution.weight, 10.0)
        nn.init.constant_(self.convolution.bias, 30.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return layers.gem(self.convolution(x), 3.0)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_extracting_in_half_precision_gives_finite_rows(precision: str) -> None:
    pixels = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    found = embed.descriptors(
        Strong(), lambda job: pixels, [0], precision=precision, half=True, processes=0
    )
    rows = np.concatenate([r for _, r in found]).astype(np.float32)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
