"""Small layers that teachers and students share."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GEM_EPS = 1e-6  # below it a response counts as none, in every published GeM


def gem(x: Tensor, p: Tensor | float, eps: float = GEM_EPS) -> Tensor:
    """Generalised mean of (B, C, H, W) over H and W: (B, C). p = 1 is the mean, large p the max.

    In float32 at least: a power of a response above 40 is beyond float16.
    """
    x = full(x)
    if isinstance(p, float) and p == 1.0:
        return x.clamp(min=eps).mean((-2, -1))
    return x.clamp(min=eps).pow(p).mean((-2, -1)).pow(1.0 / p)


def l2n(x: Tensor) -> Tensor:
    """Rows of unit length, in float32 at least: float16 has no small divisors."""
    return F.normalize(full(x), dim=-1)


def mean(x: Tensor) -> Tensor:
    """Mean of (B, C, H, W) over H and W: (B, C), in float32 at least."""
    return full(x).mean((-2, -1))


def full(x: Tensor) -> Tensor:
    """`x` in float32 where it is half as precise, else as it is: sums of many need it."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class Normalise(nn.Module):
    """RGB (B, 3, H, W) in [0, 1] to what a network was trained on: mean, std, channel order."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], bgr: bool = False) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.bgr = bgr  # mean and std are given in RGB order all the same

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.std
        return x.flip(1) if self.bgr else x
