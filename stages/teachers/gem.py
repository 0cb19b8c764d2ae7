"""GeM: ResNet-101, generalised mean, learned whitening layer, 2048-d (Radenovic et al., 2018).

The file of the Google-Landmarks-2018 model, `gl18-tl-resnet101-gem-w`. Expected entries: 627, the
backbone's 624 (104 of them batch counters, which may be absent), `pool.p`, `whiten.{weight,bias}`.
The layout that Whiten-MTD's own code reads has torchvision's names and no exponent: 626 entries.
"""

from typing import Literal

from torch import nn

from ..core import params
from . import _resnet
from ._resnet import State

PUBLISHED = (
    "cmp.felk.cvut.cz: cnnimageretrieval/data/networks/gl18/gl18-tl-resnet101-gem-w-a4d43db.pth"
)
NAMES = {  # a sequence of torchvision's children (2 and 3 are ReLU and max-pool)
    "features.0.": "backbone.conv1.", "features.1.": "backbone.bn1.",
    "features.4.": "backbone.layer1.", "features.5.": "backbone.layer2.",
    "features.6.": "backbone.layer3.", "features.7.": "backbone.layer4.",
    "whiten.": "fc.", "pool.p": "p",
}  # fmt: skip


class Settings(_resnet.Settings):
    """One entry of `teachers` of kind gem."""

    kind: Literal["gem"]
    license: str | None = "MIT"


def rename(state: State) -> State:
    """Official names, or the converted ones (torchvision's and `fc`, no exponent), to ours."""
    return _resnet.renamed(state, lambda k: _resnet.from_torchvision(_resnet.with_prefix(k, NAMES)))


def load(settings: params.Given, where: str) -> nn.Module:
    """GeM, L2, whitening layer, L2. Raises UserError where the file does not fit."""
    s = params.check(settings, Settings, where)
    state, _ = _resnet.read(s)
    net = _resnet.Pooled("resnet101", out=2048, unit_pooled=True, unit_out=True)
    return _resnet.fill(net, state, rename, s, where, may_lack_p=True)
