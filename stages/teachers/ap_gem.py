"""AP-GeM: ResNet-101 trained for average precision, 2048-d (Revaud et al., 2019).

The file `Resnet101-AP-GeM-LM18.pt`. Expected entries: 627, that is the backbone's 624 (104 of them
batch counters), `adpool.p`, `fc.{weight,bias}`; all may begin with `module.`. Beside them the file
holds pickled scikit-learn objects: `whiten-mtd convert` makes a plain file of it without executing
them. That file has the PCA as `pca.*`, not used here: the pipeline fits a whitening of its own.
"""

import json
from typing import Any, Literal

from torch import nn

from ..core import params
from ..core.errors import UserError
from . import _resnet
from ._resnet import State

PUBLISHED = "github.com/naver/deep-image-retrieval, table of the README: Resnet101-AP-GeM-LM18"
UNUSED = ("pca.",)


class Settings(_resnet.Settings):
    """One entry of `teachers` of kind ap_gem."""

    kind: Literal["ap_gem"]
    norm_features: bool | None = None  # L2 before the linear layer; None: as the file says
    license: str | None = "BSD-3-Clause"


def rename(state: State) -> State:
    """Official names to ours."""
    return _resnet.renamed(state, lambda k: "p" if k == "adpool.p" else _resnet.from_torchvision(k))


def load(settings: params.Given, where: str) -> nn.Module:
    """GeM, L2 if `norm_features`, linear, L2. Raises UserError where the file does not fit."""
    s = params.check(settings, Settings, where)
    state, beside = _resnet.read(s)
    given = options(beside, s.weights)
    if given.get("center_bias"):
        raise UserError(
            f"{s.weights}: has center_bias {given['center_bias']}, which the published model has "
            "not and this kind does not do; export it and use kind exported"
        )
    unit = bool(given.get("norm_features", False)) if s.norm_features is None else s.norm_features
    net = _resnet.Pooled("resnet101", out=2048, unit_pooled=unit, unit_out=True)
    return _resnet.fill(net, state, rename, s, where, unused=UNUSED)


def options(beside: dict[str, Any], where: str) -> dict[str, Any]:
    """`model_options` of a checkpoint, or of the plain file made of it (there as JSON)."""
    given = beside.get("model_options", {})
    try:
        given = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        raise UserError(
            f"{where}: its model_options are no JSON; make the file again by `whiten-mtd convert`"
        ) from None
    return given if isinstance(given, dict) else {}
