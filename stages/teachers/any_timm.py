"""Any timm model as a teacher, by `params.yaml` alone."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..core import params
from ..core.errors import UserError
from ..nets import checkpoints, hub, weights
from ..nets.backbone import Backbone, statistics
from ..nets.layers import Normalise


class Settings(params.Teacher):
    """One entry of `teachers` of kind any_timm."""

    kind: Literal["any_timm"]
    model: str  # timm name
    image_px: int = Field(ge=16, le=4096)  # side of a training view, long side of an image
    weights: str = "pretrained"  # pretrained (package or hub), random (a test's), or a file
    sha256: str | None = None  # of the weights file, checked before it is read
    pool: Literal["auto", "gem", "avg", "token"] = "auto"
    gem_p: float = Field(default=3.0, gt=0)  # exponent of GeM
    stage: int | None = None  # an earlier feature map (timm's feature levels), None: the last
    license: str | None = None  # of the weights, for the student's card


class AnyTimm(nn.Module):
    """Normalise, backbone, pool: raw descriptors (B, dim)."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.normalise = Normalise(*statistics(backbone.net))
        self.backbone = backbone
        self.dim = backbone.dim

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(self.normalise(x))


def load(settings: params.Given, where: str) -> nn.Module:
    """The teacher that `settings` describe. Raises UserError where it has no weights."""
    s = params.check(settings, Settings, where)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # random weights are the same ones in every process
        backbone = Backbone(s.model, pool=s.pool, p=s.gem_p, stage=s.stage)
    backbone.try_side(s.image_px, f"{where}.image_px")
    if s.weights == "random":
        return AnyTimm(backbone)
    if s.weights == "pretrained":
        try:
            state, origin = weights.pretrained(s.model)
        except hub.Missing as error:
            raise UserError(f"{where}: {error}; or set {where}.weights to a file") from None
    else:
        state, origin = checkpoints.from_file(Path(s.weights), s.sha256), s.weights
    weights.fill(backbone.net, state, origin, unused=weights.classifiers(backbone.net))
    return AnyTimm(backbone)
