"""Images of any shape to descriptors, at several scales."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from .layers import l2n


def describe(net: nn.Module, pixels: Tensor, scales: Sequence[float]) -> Tensor:
    """(B, 3, H, W) float32 in [0, 1] to (B, dim): each scale's L2, their sum, L2.

    Scales below one shrink the image bilinearly, without a further anti-aliasing, as the
    landmark benchmarks do.
    """
    total: Tensor | None = None
    for scale in scales:
        x = pixels if scale == 1 else _resized(pixels, scale)
        y = l2n(net(x).float())
        total = y if total is None else total + y
    assert total is not None
    return l2n(total)


def _resized(pixels: Tensor, scale: float) -> Tensor:
    h, w = pixels.shape[-2:]
    shape = (max(round(h * scale), 1), max(round(w * scale), 1))
    return F.interpolate(pixels, shape, mode="bilinear", align_corners=False)
