"""DELG's global descriptor: ResNet-101, generalised mean, linear layer, 512-d (Cao et al., 2020).

The PyTorch port's file `r101_delg_s512.pyth`. Used entries: 627, that is the backbone's 624 (104 of
them batch counters) and `globalmodel.head.{pool.p,fc.weight,fc.bias}`; the local branch and both
classifiers are left out. The network was trained on BGR images.
"""

from typing import Literal

from torch import nn

from ..core import params
from . import _resnet
from ._resnet import State

PUBLISHED = "github.com/feymanpriv/DELG, README: R101, size 512 (r101_delg_s512.pyth)"
UNUSED = ("localmodel.", "desc_cls.", "att_cls.")
NAMES = {"globalmodel.head.fc.": "fc.", "globalmodel.head.pool.p": "p"}


class Settings(_resnet.Settings):
    """One entry of `teachers` of kind delg."""

    kind: Literal["delg"]
    license: str | None = None  # the port's repository states none


def rename(state: State) -> State:
    """Official names to ours."""
    return _resnet.renamed(state, lambda k: _resnet.from_pycls(_resnet.with_prefix(k, NAMES)))


def load(settings: params.Given, where: str) -> nn.Module:
    """GeM, linear layer; no L2 inside. Raises UserError where the file does not fit."""
    s = params.check(settings, Settings, where)
    state, _ = _resnet.read(s)
    net = _resnet.Pooled("resnet101", out=512, bgr=True)
    return _resnet.fill(net, state, rename, s, where, unused=UNUSED)
