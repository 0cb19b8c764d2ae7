"""SOLAR: ResNet-101 with two second-order attention blocks, 2048-d (Ng et al., 2020).

The file `resnet101-solar-best.pth`. Expected entries: 663, that is the backbone's 624 (104 of them
batch counters), 18 of each block (`soa4`, `soa5`), `pool.p`, `whiten.{weight,bias}`.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from ..core import params
from . import _resnet
from ._resnet import State

PUBLISHED = "github.com/tonyngjichun/SOLAR, download.sh: resnet101-solar-best.pth"
NAMES = {
    "features.conv1.0.": "backbone.conv1.", "features.conv1.1.": "backbone.bn1.",
    "features.conv2_x.2.": "backbone.layer1.",  # 0 and 1 are ReLU and max-pool
    "features.conv3_x.": "backbone.layer2.", "features.conv4_x.": "backbone.layer3.",
    "features.conv5_x.": "backbone.layer4.", "features.soa": "soa", "whiten.": "fc.", "pool.p": "p",
}  # fmt: skip


class Settings(_resnet.Settings):
    """One entry of `teachers` of kind solar."""

    kind: Literal["solar"]
    license: str | None = "MIT"


class SecondOrder(nn.Module):
    """Every position attends to every other; added to the map, (B, C, H, W) to the same."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.BatchNorm2d(inner), nn.ReLU())
        self.g = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.BatchNorm2d(inner), nn.ReLU())
        self.h = nn.Conv2d(channels, inner, 1)
        self.v = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """softmax(F^T G / sqrt(inner)) H^T, never held as a whole (H W x H W) matrix."""
        query, key, value = (_positions(part(x)) for part in (self.f, self.g, self.h))
        z = F.scaled_dot_product_attention(query, key, value)  # scales by 1 / sqrt(inner)
        return x + self.v(z.transpose(1, 2).unflatten(-1, x.shape[-2:]))


class Solar(_resnet.Pooled):
    """The pooled ResNet with attention after the third and the fourth stage."""

    def __init__(self) -> None:
        super().__init__("resnet101", out=2048, unit_pooled=True, unit_out=True)
        self.soa4 = SecondOrder(1024, 256)
        self.soa5 = SecondOrder(2048, 1024)

    def features(self, x: Tensor) -> Tensor:
        """Normalised (B, 3, H, W) to (B, 2048, H/32, W/32); may be negative, GeM clamps it."""
        t = self.backbone
        x = t.maxpool(t.act1(t.bn1(t.conv1(x))))
        x = self.soa4(t.layer3(t.layer2(t.layer1(x))))
        return self.soa5(t.layer4(x))


def rename(state: State) -> State:
    """Official names to ours."""
    return _resnet.renamed(state, lambda k: _resnet.with_prefix(k, NAMES))


def load(settings: params.Given, where: str) -> nn.Module:
    """GeM, L2, whitening layer, L2. Raises UserError where the file does not fit."""
    s = params.check(settings, Settings, where)
    state, _ = _resnet.read(s)
    return _resnet.fill(Solar(), state, rename, s, where)


def _positions(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H W, C)."""
    return x.flatten(2).transpose(1, 2)
