"""Files of weights of any origin: read without executing anything, their wrappings taken off."""

import re
import warnings
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from ..core import console, file_kind
from ..core.errors import UserError
from ..core.files import digest_of_file

State = dict[str, torch.Tensor]
# Where a checkpoint keeps its weights; of several, the first of these is taken.
MAPS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module",
    "state_dict_ema", "model_ema", "ema", "teacher", "student", "backbone", "encoder",
)  # fmt: skip
# What a training program puts before the names of a network's weights.
WRAPPERS = (
    "module.", "_orig_mod.", "model.", "net.", "network.", "student.", "teacher.", "backbone.",
    "encoder.",
)  # fmt: skip
PART = ("backbone.", "encoder.")  # these tell one part of a network from another


def from_file(path: Path, sha256: str | None = None) -> State:
    """State dict of a .safetensors or PyTorch file (read without executing anything in it)."""
    return read(path, sha256)[0]


def read(path: Path, sha256: str | None = None) -> tuple[State, dict[str, Any]]:
    """State dict of a weights file and what the file holds beside it (options, metadata).

    Raises UserError, with the remedy, where it is no file of weights.
    """
    check_file(path, sha256)
    if wrong := file_kind.mistaken(path):
        raise UserError(f"{path}: not a checkpoint: it {wrong}")
    if _is_safetensors(path):
        return _safetensors(path)
    state, beside = unwrapped(_load(path), str(path))
    if odd := [k for k in state if not isinstance(k, str)]:
        raise UserError(f"{path}: not a checkpoint: {odd[0]!r} is no name of a weight")
    return state, beside


def check_file(path: Path, sha256: str | None) -> None:
    """Raise UserError where `path` is missing or is not the file that `sha256` is of."""
    if not path.is_file():
        what = "is a folder, not a" if path.is_dir() else "no such"
        raise UserError(f"{path}: {what} weights file")
    wanted = sha256.strip().lower() if sha256 else None
    if wanted and (actual := digest_of_file(path, "sha256")) != wanted:
        raise UserError(f"{path}: sha256 is {actual}, not {sha256}: another or half a download")


def unwrapped(tree: dict[Any, Any], where: str) -> tuple[State, dict[str, Any]]:
    """(state dict, all that lay beside it) of a checkpoint; a choice among several maps is said.

    Raises UserError where several maps hold tensors and none has a usual name.
    """
    beside: dict[str, Any] = {}
    while maps := [k for k, v in tree.items() if _is_map(v)]:
        known = [k for k in MAPS if k in maps]
        if not known and any(isinstance(v, torch.Tensor) and v.ndim for v in tree.values()):
            break  # these are weights already; the map is something beside them
        if not known and len(maps) > 1:
            names = ", ".join(map(str, maps[:4]))
            raise UserError(
                f"{where}: several maps of weights ({names}), none under a usual name; save the "
                "one that is meant alone, by torch.save"
            )
        key = known[0] if known else maps[0]
        if len(maps) > 1:
            names = ", ".join(map(str, maps))
            console.say(f"{where}: several maps of weights ({names}); `{key}` is taken")
        beside |= {k: v for k, v in tree.items() if k != key}
        tree = tree[key]
    return tree, beside


def bare(state: State, own: Collection[str] | None = None) -> tuple[State, str]:
    """(`state` without the prefix that a training program put before its names, that prefix).

    `own`: the names that the network has; a wrapper comes off until one of them is there, from the
    names that have it (the others are for `fill` to judge). None: only what every name has, and no
    wrapper that tells one part of a network from another.
    """
    taken = ""
    while state and not (own and any(k in own for k in state)):
        wrappers = [w for w in WRAPPERS if any(k.startswith(w) for k in state)]
        everywhere = all(k.startswith(wrappers[0]) for k in state) if wrappers else False
        if len(wrappers) != 1 or (own is None and (wrappers[0] in PART or not everywhere)):
            break
        names = {k: k.removeprefix(wrappers[0]) for k in state}
        if len(set(names.values())) < len(names):
            break  # two copies at once: whose they are is not to be guessed
        state, taken = {names[k]: v for k, v in state.items()}, taken + wrappers[0]
    return state, taken


def _is_map(value: Any) -> bool:
    """Whether `value` is a map of tensors (of more than one number), or holds one as MAPS say."""
    if not isinstance(value, dict):
        return False
    if any(isinstance(v, torch.Tensor) and v.ndim for v in value.values()):
        return True
    return any(_is_map(value[k]) for k in MAPS if k in value)


def _is_safetensors(path: Path) -> bool:
    """By content: the length of a JSON header, and the header; else by the name."""
    with open(path, "rb") as file:
        begin = file.read(9)
    length = int.from_bytes(begin[:8], "little")
    if len(begin) == 9 and begin[8:] == b"{" and length < path.stat().st_size:
        return True
    return path.suffix == ".safetensors" and not zipfile.is_zipfile(path)


def _safetensors(path: Path) -> tuple[State, dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return {k: file.get_tensor(k) for k in names}, dict(file.metadata() or {})
    except SafetensorError as error:
        raise UserError(f"{path}: {_reason(path, error)}") from None


def _load(path: Path) -> dict[Any, Any]:
    file_kind.refuse_swollen(path)
    if zipfile.is_zipfile(path) and (wrong := _other_zip(path)):
        raise UserError(f"{path}: {wrong}")
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters is in the error
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or unsafe file raises many kinds
        raise UserError(f"{path}: {_reason(path, error)}") from None
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds no map of weights")
    return state


def _other_zip(path: Path) -> str | None:
    """What a zip is that torch.save did not write; None where it did, or nobody can say."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n.split("/", 1)[-1] for n in archive.namelist()]
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return None
    if "constants.pkl" in names and any(n.startswith("code/") for n in names):
        return "not weights but a TorchScript program; a teacher of kind exported runs it"
    if "data.pkl" not in names:
        return "a zip archive, but none of torch.save; unpack it and give the file inside"
    return None


def _reason(path: Path, error: Exception) -> str:
    """Why a file was refused, in one line: an object that is no weight, or damage."""
    if match := re.search(r"GLOBAL (\w+(?:\.\w+)+)", str(error)):
        return (
            f"holds {match[1]}, which is no weight and is not executed; "
            f"`whiten-mtd convert {path} {path.stem}.safetensors` takes the tensors out"
        )
    if "Weights only load failed" in str(error):
        return "neither safetensors nor a checkpoint of torch.save, or only half of one"
    line = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
    return f"cannot be read as weights ({line}): half a file?"
