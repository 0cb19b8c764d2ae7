"""MoCo v3: self-supervised ResNet-50, average pool, 2048-d (Chen et al., 2021).

The file `r-50-1000ep.pth.tar`. Used entries: the base encoder's 318 (53 of them batch counters);
its projector, the momentum encoder and the predictor are left out.
"""

from typing import Literal

from torch import nn

from ..core import params
from . import _resnet
from ._resnet import State

PUBLISHED = "dl.fbaipublicfiles.com/moco-v3/r-50-1000ep/r-50-1000ep.pth.tar"
UNUSED = ("base_encoder.fc.", "momentum_encoder.", "predictor.")


class Settings(_resnet.Settings):
    """One entry of `teachers` of kind moco_v3. `gem_p`: None is the average pool."""

    kind: Literal["moco_v3"]
    license: str | None = "CC-BY-NC-4.0"


def rename(state: State) -> State:
    """Official names to ours; the projector and what is not the base encoder stay as they are."""
    names = {f"base_encoder.{child}": f"backbone.{child}" for child in _resnet.CHILDREN}
    return _resnet.renamed(state, lambda k: _resnet.with_prefix(k, names))


def load(settings: params.Given, where: str) -> nn.Module:
    """The pooled backbone; no L2 inside. Raises UserError where the file does not fit."""
    s = params.check(settings, Settings, where)
    state, _ = _resnet.read(s)
    net = _resnet.Pooled("resnet50", p=s.gem_p)
    return _resnet.fill(net, state, rename, s, where, unused=UNUSED, may_lack_p=True)
