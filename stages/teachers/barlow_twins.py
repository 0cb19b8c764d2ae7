"""Barlow Twins: self-supervised ResNet-50, average pool, 2048-d (Zbontar et al., 2021).

Either file: `resnet50.pth`, the backbone's 318 entries (53 of them batch counters) under
torchvision's names, or `checkpoint.pth`, the same as `backbone.*` with the projector, left out.
The first is a tenth of the second and gives the same descriptors.
"""

from typing import Literal

from torch import nn

from ..core import params
from . import _resnet
from ._resnet import State

PUBLISHED = "dl.fbaipublicfiles.com/barlowtwins/ljng/resnet50.pth (or checkpoint.pth beside it)"
UNUSED = ("projector.", "bn.")


class Settings(_resnet.Settings):
    """One entry of `teachers` of kind barlow_twins. `gem_p`: None is the average pool."""

    kind: Literal["barlow_twins"]
    license: str | None = "MIT"


def rename(state: State) -> State:
    """Names of either file to ours; the projector's stay as they are."""
    return _resnet.renamed(state, lambda k: _resnet.from_torchvision(k.removeprefix("backbone.")))


def load(settings: params.Given, where: str) -> nn.Module:
    """The pooled backbone; no L2 inside. Raises UserError where the file does not fit."""
    s = params.check(settings, Settings, where)
    state, _ = _resnet.read(s)
    net = _resnet.Pooled("resnet50", p=s.gem_p)
    return _resnet.fill(net, state, rename, s, where, unused=UNUSED, may_lack_p=True)
