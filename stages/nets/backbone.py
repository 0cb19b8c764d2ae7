"""Any timm network as a backbone: images in, one pooled vector each out, width probed."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import UserError
from ..core.plugins import nearest
from .layers import gem, mean

ODD = (75, 100)  # an image's shape that fits no patch: who takes it takes any


class Backbone(nn.Module):
    """timm model `name` without its classifier, pooled to (B, dim).

    `stage`: None for the last map, else the index of an earlier one (timm's feature levels).
    `pool`: gem, avg, token, or auto: GeM for convolutional maps, the mean for tokens (half of a
    token map is negative, which GeM would clamp away). Prefix tokens are not averaged.

    Images of any shape: where the network takes multiples of a `patch` (height, width) or one
    `side` only, they are resized to the nearest that it takes.
    """

    def __init__(self, name: str, *, pool: str = "auto", p: float = 3.0, stage: int | None = None):
        super().__init__()
        self.net = _create(name)
        self.name, self.p, self.stage = name, float(p), stage
        self.prefix = int(getattr(self.net, "num_prefix_tokens", 0))
        self.channels_last = getattr(self.net, "output_fmt", None) == "NHWC"
        self.side, self.patch = _shapes(self.net)
        self.pool = pool if pool != "auto" else self._natural_pool()
        if pool == "token" and (self.prefix < 1 or stage is not None):
            raise UserError(f"{name}: no class token to pool; set pool to avg or gem")
        with torch.no_grad():
            self.dim = int(self.eval()(torch.zeros(1, 3, 64, 64)).shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W), already normalised, to (B, dim)."""
        y = self._map(x)
        if y.ndim == 3:  # tokens (B, N, C)
            if self.pool == "token":
                return y[:, 0]
            y = y[:, self.prefix :].transpose(1, 2).unsqueeze(-1)
        return gem(y, self.p) if self.pool == "gem" else mean(y)

    def _fitting(self, x: Tensor) -> Tensor:
        """`x` in a shape that the network takes, the nearest one."""
        shape = tuple(x.shape[-2:])
        if self.side is not None:
            wanted = (self.side, self.side)
        elif self.patch != (1, 1):
            h, w = (max(round(n / p), 1) * p for n, p in zip(shape, self.patch, strict=True))
            wanted = (h, w)
        else:
            return x
        if shape == wanted:
            return x
        return F.interpolate(x, wanted, mode="bilinear", align_corners=False, antialias=True)

    def _map(self, x: Tensor) -> Tensor:
        x = self._fitting(x)
        if self.stage is not None:
            try:
                return self.net.forward_intermediates(
                    x, indices=[self.stage], intermediates_only=True, stop_early=True
                )[0]
            except (AssertionError, AttributeError) as error:  # out of range; no such levels
                raise UserError(f"{self.name}: no stage {self.stage} ({error})") from None
        y = self.net.forward_features(x)
        if not isinstance(y, Tensor):
            raise UserError(f"{self.name}: no single map of features; such networks are not taken")
        return y.permute(0, 3, 1, 2) if self.channels_last and y.ndim == 4 else y

    def _natural_pool(self) -> str:
        with torch.no_grad():
            self.pool = "avg"
            y = self.eval()._map(torch.zeros(1, 3, 64, 64))
        tokens = y.ndim == 3 or self.prefix or getattr(self.net, "patch_embed", None) is not None
        return "avg" if tokens or self.channels_last else "gem"


def _create(name: str) -> Any:
    import timm

    options: dict[str, Any] = {"pretrained": False, "num_classes": 0}
    try:
        try:  # token models at any multiple of the patch; other families do not know the option
            return timm.create_model(name, dynamic_img_size=True, **options)
        except TypeError:
            return timm.create_model(name, **options)
    except RuntimeError as error:
        known = timm.list_models()
        if name.split(".")[0] in known:
            raise UserError(f"{name}: timm cannot build it ({error})") from None
        raise UserError(
            f"no timm model {name!r}{nearest(name, known)}; `timm.list_models()` lists them"
        ) from None


def _shapes(net: Any) -> tuple[int | None, tuple[int, int]]:
    """(side, patch): the only side the network takes, or None; what sides are multiples of."""
    config = getattr(net, "pretrained_cfg", {})
    embed: Any = getattr(net, "patch_embed", None)
    if getattr(embed, "strict_img_size", True) is False:
        height, width = embed.patch_size
        return None, (int(height), int(width))
    if (config.get("fixed_input_size") or embed is not None) and not _takes(net, ODD):
        return int(config.get("input_size", (3, 224, 224))[-1]), (1, 1)
    return None, (1, 1)


def _takes(net: Any, shape: tuple[int, int]) -> bool:
    try:
        with torch.no_grad():
            net.eval().forward_features(torch.zeros(1, 3, *shape))
    except (AssertionError, RuntimeError):  # as timm's and torch's layers refuse a shape
        return False
    return True


def statistics(net: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std (RGB, of pixels in [0, 1]) that a timm network was trained with."""
    config = getattr(net, "pretrained_cfg", {})
    return (
        tuple(config.get("mean", (0.485, 0.456, 0.406))),
        tuple(config.get("std", (0.229, 0.224, 0.225))),
    )
