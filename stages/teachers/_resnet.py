"""What the published ResNet teachers share: a headless backbone, GeM, a linear layer, key names.

All seven are ResNets with the stride in the 3x3 convolution, as timm and torchvision have them, so
that a checkpoint needs only new names: `backbone.*` (timm's), `p` (the exponent of GeM) and `fc.*`.
A name that a teacher's `rename` does not know stays as it is, to be reported as unexpected.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from ..core import console, params
from ..core.errors import UserError
from ..nets import checkpoints, weights
from ..nets.layers import Normalise, gem, l2n, mean

State = checkpoints.State
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and std of all seven, RGB
CHILDREN = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")  # of torchvision's ResNet


class Settings(params.Teacher):
    """What the entries of these kinds in `teachers` have in common."""

    image_px: int = Field(ge=32, le=4096)  # side of a training view, long side of an image
    weights: str  # path of the checkpoint as published (each file's PUBLISHED)
    sha256: str | None = None  # of that file, checked before it is read
    gem_p: float | None = Field(default=None, gt=0)  # None: the checkpoint's own; 3: as Whiten-MTD


class Pooled(nn.Module):
    """Normalise, ResNet, GeM, and as asked: L2, linear layer, L2. Images to (B, dim).

    `p`: the exponent before a checkpoint brings its own; None: plain average, nothing to load.
    `out`: width of the linear layer, None: none.
    """

    p: Tensor | None

    def __init__(
        self, model: str, *, p: float | None = 3.0, out: int | None = None,
        unit_pooled: bool = False, unit_out: bool = False, bgr: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.normalise = Normalise(*IMAGENET, bgr=bgr)
        self.backbone = backbone(model)
        width = int(self.backbone.num_features)
        self.register_buffer("p", None if p is None else torch.tensor([p]))
        self.fc = nn.Linear(width, out) if out else nn.Identity()
        self.unit_pooled, self.unit_out = unit_pooled, unit_out
        self.dim = out or width

    def features(self, x: Tensor) -> Tensor:
        """Normalised (B, 3, H, W) to the last map (B, C, H/32, W/32)."""
        return self.backbone.forward_features(x)

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(self.normalise(x))
        y = mean(y) if self.p is None else gem(y, self.p)
        y = self.fc(l2n(y) if self.unit_pooled else y)
        return l2n(y) if self.unit_out else y


def backbone(model: str) -> Any:
    """timm's ResNet `model` without its head: `forward_features` gives the map of stride 32."""
    import timm

    return timm.create_model(model, pretrained=False, num_classes=0, global_pool="")


def read(s: Settings) -> tuple[State, dict[str, Any]]:
    """Tensors of the checkpoint (wrappers' prefixes taken off) and what else it holds."""
    state, beside = checkpoints.read(Path(s.weights), s.sha256)
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)}
    tensors, prefix = checkpoints.bare(tensors)
    if prefix not in ("", "module."):  # some are published with `module.`
        console.say(f"{s.weights}: `{prefix}` is taken off the names of its weights")
    return {k.removeprefix("module."): v for k, v in tensors.items()}, beside


def fill(
    net: nn.Module, state: State, rename: Callable[[State], State], s: Settings, where: str,
    *, unused: tuple[str, ...] = (), may_lack_p: bool = False,
) -> nn.Module:  # fmt: skip
    """`net` with `state` under its own names, all of it but the prefixes `unused` (old names).

    Raises UserError with the first keys that differ and the kind that the file looks like; also
    where the file `may_lack_p`, does, and the settings have no exponent either.
    """
    named = rename(state)
    lacks_p = may_lack_p and "p" in net.state_dict() and "p" not in named
    if s.gem_p is not None and ("p" in named or lacks_p):
        named["p"] = torch.tensor([s.gem_p])
    elif lacks_p:
        named["p"] = net.get_buffer("p")  # the last to be asked: a setting can give it
    try:
        weights.fill(net, named, s.weights, unused)
    except UserError as error:
        raise UserError(f"{error}; its keys look like {looks_like(state)}") from None
    if lacks_p and s.gem_p is None:
        raise UserError(
            f"{s.weights}: holds no exponent of GeM; set {where}.gem_p (3 is what Whiten-MTD used)"
        )
    return net


def renamed(state: State, key: Callable[[str], str]) -> State:
    """`state` with every key passed through `key`. Raises UserError where two become one."""
    names = {k: key(k) for k in state}
    if len(set(names.values())) < len(names):
        twice = sorted({n for n in names.values() if list(names.values()).count(n) > 1})
        raise UserError(f"a checkpoint of two layouts at once: {twice[0]} occurs twice")
    return {names[k]: v for k, v in state.items()}


def with_prefix(key: str, table: dict[str, str]) -> str:
    """`key` with the first prefix of `table` that it has replaced; as it is where it has none."""
    return next((new + key[len(old) :] for old, new in table.items() if key.startswith(old)), key)


def from_torchvision(key: str) -> str:
    """torchvision's names are timm's: the backbone's get their prefix, others stay."""
    return f"backbone.{key}" if key.startswith(CHILDREN) else key


_PARTS = {
    "proj": "downsample.0", "bn": "downsample.1", "f.a": "conv1", "f.a_bn": "bn1", "f.b": "conv2",
    "f.b_bn": "bn2", "f.c": "conv3", "f.c_bn": "bn3",
}  # fmt: skip


def from_pycls(key: str) -> str:
    """pycls' names of a ResNet (DELG, DOLG) to the backbone's; others stay."""
    if match := re.fullmatch(r"globalmodel\.stem\.(conv|bn)\.(\w+)", key):
        return f"backbone.{match[1]}1.{match[2]}"
    match = re.fullmatch(r"globalmodel\.s(\d)\.b(\d+)\.(proj|bn|f\.[abc](?:_bn)?)\.(\w+)", key)
    if match is None:
        return key
    stage, block, part, rest = match.groups()
    return f"backbone.layer{stage}.{int(block) - 1}.{_PARTS[part]}.{rest}"


def looks_like(keys: Iterable[str]) -> str:
    """Which teacher a checkpoint is of, by its keys (prefix `module.` taken off) alone."""
    names = list(keys)
    for prefix, kind in _MARKS.items():
        if any(k.startswith(prefix) for k in names):
            return kind
    return "none of the published teachers'"


# The first mark that any key begins with decides, so the order matters.
_MARKS = {
    "features.soa": "solar",
    "features.0.": "gem",
    "adpool.": "ap_gem",
    "globalmodel.head.": "delg",
    "fc_t.": "dolg",
    "base_encoder.": "moco_v3",
    "momentum_encoder.": "moco_v3",
    "backbone.": "barlow_twins",
    "projector.": "barlow_twins",
    "fc.": "gem as Whiten-MTD converted it, or a classifier (kind any_timm)",
    "conv1.": "barlow_twins' backbone, or another plain ResNet (kind any_timm)",
}
