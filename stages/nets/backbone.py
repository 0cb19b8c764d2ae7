"""Any timm network as a backbone: images in, one pooled vector each out, width probed."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import UserError
from ..core.plugins import nearest
from .layers import gem, mean

ODD = (75, 100)  # an image's shape that fits no patch: who takes it takes any
SMALL = 32  # pixels: who takes this side takes any that images have
MULTIPLES = (2, 4, 8, 16, 32, 64, 128)
REFUSED = (AssertionError, RuntimeError, ValueError, IndexError)  # a shape, by timm's layers
TRIED = 256  # pixels of a side that are tried: of a larger one the rest beyond its multiples


class Sizes(NamedTuple):
    """Which shapes of images a network takes: any, unless a field says otherwise."""

    side: int | None = None  # the only side
    patch: tuple[int, int] = (1, 1)  # multiples of (height, width)
    multiple: int = 1  # multiples of this, of a network that is no patch-wise one
    least: int = 0  # the smallest side


class Backbone(nn.Module):
    """timm model `name` without its classifier, pooled to (B, dim).

    `stage`: None for the last map, else the index of an earlier one (timm's feature levels).
    `pool`: gem, avg, token, or auto: GeM for convolutional maps, the mean for tokens (half of a
    token map is negative, which GeM would clamp away). Prefix tokens are not averaged.

    Images of any shape: where the network takes multiples of a `patch` (height, width) or of one
    number, or one `side` only, they are resized to the nearest shape that it takes.
    """

    def __init__(self, name: str, *, pool: str = "auto", p: float = 3.0, stage: int | None = None):
        super().__init__()
        self.net = _create(name)
        self.name, self.p, self.stage = name, float(p), stage
        self.prefix = int(getattr(self.net, "num_prefix_tokens", 0))
        self.channels_last = getattr(self.net, "output_fmt", None) == "NHWC"
        self.sizes = sizes(self.net)
        self.pool = pool if pool != "auto" else self._natural_pool()
        if pool == "token" and (self.prefix < 1 or stage is not None):
            raise UserError(f"{name}: no class token to pool; set pool to avg or gem")
        try:
            with torch.no_grad():
                self.dim = int(self.eval()(torch.zeros(1, 3, 64, 64)).shape[1])
        except REFUSED as error:
            line = str(error).split("\n")[0][:150]
            raise UserError(f"{name}: takes none of the shapes that were tried ({line})") from None

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W), already normalised, to (B, dim)."""
        y = self._map(x)
        if y.ndim == 3:  # tokens (B, N, C)
            if self.pool == "token":
                return y[:, 0]
            y = y[:, self.prefix :].transpose(1, 2).unsqueeze(-1)
        return gem(y, self.p) if self.pool == "gem" else mean(y)

    def try_side(self, side: int, where: str) -> None:
        """One image of `side` x `side` pixels through the network, before hours of work do it.

        Raises UserError, beginning with `where`, with the nearest sides that the network takes.
        """
        m, least = self.sizes.multiple, self.sizes.least
        refusal = f"{where}: {self.name} does not take {side} x {side}"
        if side < least:
            raise UserError(f"{refusal}; give {least} or more" + (f", a multiple of {m}" * (m > 1)))
        if side % m:
            below, above = side // m * m, (side // m + 1) * m
            near = f"{below} or {above}" if below >= max(least, m) else str(above)
            raise UserError(f"{refusal}; give a multiple of {m} ({near})")
        tried = side if side <= TRIED else TRIED + side % TRIED
        training = self.training
        try:
            with torch.no_grad():
                self.eval()(torch.zeros(1, 3, tried, tried))
        except torch.OutOfMemoryError:
            raise
        except REFUSED as error:
            line = str(error).split("\n")[0][:150]
            own = getattr(self.net, "pretrained_cfg", {}).get("input_size", (3, 224, 224))[-1]
            raise UserError(f"{refusal} ({line}); it was trained at {own} x {own}") from None
        finally:
            self.train(training)

    def _fitting(self, x: Tensor) -> Tensor:
        """`x` in a shape that the network takes, the nearest one."""
        side, patch, multiple, least = self.sizes
        shape = tuple(x.shape[-2:])
        if side is not None:
            wanted = (side, side)
        elif patch != (1, 1) or multiple > 1 or least:
            steps = patch if patch != (1, 1) else (multiple, multiple)
            h, w = (
                max(round(n / p), -(-least // p), 1) * p for n, p in zip(shape, steps, strict=True)
            )
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


def sizes(net: Any) -> Sizes:
    """Which shapes of images `net` takes, by what it says and by trying."""
    config = getattr(net, "pretrained_cfg", {})
    embed: Any = getattr(net, "patch_embed", None)
    if getattr(embed, "strict_img_size", True) is False:
        height, width = embed.patch_size
        return Sizes(patch=(int(height), int(width)))
    if _takes(net, ODD):
        return Sizes(least=0 if _takes(net, (SMALL, SMALL)) else _least(net, 1, ODD[0]))
    own = int(config.get("input_size", (3, 224, 224))[-1])
    if config.get("fixed_input_size") or embed is not None:
        return Sizes(side=own)
    for low in (96, own):  # some are for large images only
        if found := _multiple(net, low):
            # What is large enough by the way may have hidden a smaller one.
            m = _multiple(net, found * (-(-low // found) | 1)) or found
            small = -(-SMALL // m) * m
            whole = _takes(net, (small, small))
            return Sizes(multiple=m, least=0 if whole else _least(net, m, 2 * max(low, found)))
    return Sizes()


def _multiple(net: Any, low: int) -> int | None:
    """The number of whose multiples, from `low` pixels on, `net` takes any; None where none."""
    for m in (1, *MULTIPLES):
        k = -(-low // m) | 1  # odd, so that it is a multiple of m alone
        if _takes(net, (m * k, m * (k + 2))):
            return m
    return None


def _least(net: Any, multiple: int, taken: int) -> int:
    """The smallest square that `net` takes, in multiples of a number; it takes `taken`."""
    low, high = 0, -(-taken // multiple)
    while high - low > 1:
        middle = (low + high) // 2
        square = (middle * multiple, middle * multiple)
        low, high = (low, middle) if _takes(net, square) else (middle, high)
    return high * multiple


def _takes(net: Any, shape: tuple[int, int]) -> bool:
    try:
        with torch.no_grad():
            net.eval().forward_features(torch.zeros(1, 3, *shape))
    except REFUSED:
        return False
    return True


def statistics(net: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std (RGB, of pixels in [0, 1]) that a timm network was trained with."""
    config = getattr(net, "pretrained_cfg", {})
    return (
        tuple(config.get("mean", (0.485, 0.456, 0.406))),
        tuple(config.get("std", (0.229, 0.224, 0.225))),
    )
