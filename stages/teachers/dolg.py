"""DOLG: ResNet-101, global descriptor fused with an attentive local one (Yang et al., 2021).

The file `r101_dolg_512.pyth`. `output: global` is the 1024-d global branch, which Whiten-MTD
distilled: 627 entries used, the backbone's 624 (104 of them batch counters), `pool_g.p`,
`fc_t.{weight,bias}`. `output: fused` is the published 512-d descriptor: 638 entries, those and
`fc.{weight,bias}` and nine of `localmodel`. Classifiers are left out. Trained on BGR images.
For a time the published code had the exponent fixed at 3: a file without one wants `gem_p: 3`.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core import params
from ..core.errors import UserError
from ..nets.layers import Normalise, full, gem, mean
from . import _resnet
from ._resnet import State

PUBLISHED = "github.com/feymanpriv/DOLG, README: R101 (r101_dolg_512.pyth)"
CLASSIFIER = ("desc_cls.",)
FUSED_ONLY = ("localmodel.", "fc.")  # what `output: global` has no use for
# `pool1.p` is the exponent's name in the file that Whiten-MTD read, `pool_g.p` in the repository.
NAMES = {"pool_g.p": "p", "pool1.p": "p"}
WIDTH = 1024  # of the third stage's map and of the global branch


class Settings(_resnet.Settings):
    """One entry of `teachers` of kind dolg."""

    kind: Literal["dolg"]
    output: Literal["global", "fused"] = "global"
    license: str | None = "MIT"


class Local(nn.Module):
    """Attentive local features of the third stage's map, (B, 1024, H, W) to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(WIDTH, WIDTH, 1)
        self.bn = nn.BatchNorm2d(WIDTH)
        self.conv2 = nn.Conv2d(WIDTH, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.bn(self.conv1(x))
        return F.softplus(self.conv2(F.relu(z))) * F.normalize(full(z), dim=1)


class Dolg(nn.Module):
    """Images to (B, 1024), the global branch, or with `fused` to (B, 512)."""

    p: Tensor

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.normalise = Normalise(*_resnet.IMAGENET, bgr=True)
        self.backbone = _resnet.backbone("resnet101")
        self.register_buffer("p", torch.tensor([3.0]))
        self.fc_t = nn.Linear(2048, WIDTH)
        self.localmodel = Local() if fused else None
        self.fc = nn.Linear(2 * WIDTH, 512) if fused else None
        self.dim = 512 if fused else WIDTH

    def forward(self, x: Tensor) -> Tensor:
        t = self.backbone
        x = t.maxpool(t.act1(t.bn1(t.conv1(self.normalise(x)))))
        third = t.layer3(t.layer2(t.layer1(x)))
        whole = self.fc_t(gem(t.layer4(third), self.p))
        if self.localmodel is None or self.fc is None:
            return whole
        return self.fc(torch.cat([whole, orthogonal(self.localmodel(third), whole)], 1))


def orthogonal(local: Tensor, whole: Tensor) -> Tensor:
    """Mean over positions of `local` (B, C, H, W) less its part along `whole` (B, C): (B, C).

    The projection is linear, so that the mean may be taken first.
    """
    middle, whole = mean(local), full(whole)
    along = (middle * whole).sum(1, keepdim=True) / whole.square().sum(1, keepdim=True)
    return middle - along * whole


def rename(state: State) -> State:
    """Official names to ours."""
    return _resnet.renamed(state, lambda k: _resnet.from_pycls(_resnet.with_prefix(k, NAMES)))


def load(settings: params.Given, where: str) -> nn.Module:
    """What `output` names; no L2 inside. Raises UserError where the file does not fit."""
    s = params.check(settings, Settings, where)
    state, _ = _resnet.read(s)
    fused = s.output == "fused"
    if fused and any(k.startswith("localmodel.aspp.") for k in state):
        raise UserError(
            f"{s.weights}: has the multi-atrous block, which this kind does not know; "
            f"set {where}.output to global"
        )
    unused = CLASSIFIER if fused else CLASSIFIER + FUSED_ONLY
    return _resnet.fill(Dolg(fused), state, rename, s, where, unused=unused, may_lack_p=True)
