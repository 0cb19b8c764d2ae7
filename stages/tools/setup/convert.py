"""Take the tensors out of a checkpoint that also holds pickled objects, executing nothing in it.

    whiten-mtd convert Resnet101-AP-GeM-LM18.pt ap_gem.safetensors

A pickle is a program that may call anything by name. Here every name in it becomes an inert
stand-in that only keeps what it is given; tensors and arrays are then read from the kept arguments.
Nothing is imported or called for the file, neither torch nor scikit-learn. Kept are the state dict,
`model_options` (as JSON) and of each PCA its mean, components and explained variance.

Why not `torch.load(weights_only=True)` with stand-ins for what
`torch.serialization.get_unsafe_globals_in_checkpoint` lists (tried with torch 2.14.1): the list is
for files of torch 1.6 or later and pickle protocol 2 only (published checkpoints are older), and
names of some modules (`os`, `posix`, `sys`) stop the load whatever stands in for them, so that the
tensors beside them are lost.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ...core import console, file_kind, files
from ...core.errors import UserError
from . import inert

app = console.app()
STATES = ("state_dict", "model_state", "model")  # where a checkpoint keeps its state dict
OPTIONS = ("model_options", "preprocess")  # plain values kept as metadata
SLACK, TIMES = 16 << 20, 4  # tensors may have 16 MiB more than four times the file's bytes
MOST_VALUES = 100_000  # plain values among the options
PCA = ("mean", "components", "explained_variance")  # scikit-learn's attributes, which end in _


@app.command()
def main(source: Path, out: Path) -> None:
    """Write the tensors of SOURCE, a PyTorch checkpoint, to OUT, a .safetensors file."""
    from safetensors.numpy import save_file

    if out.suffix != ".safetensors":
        raise UserError(f"{out}: the name must end in .safetensors")
    tensors, metadata, left_out = read(source)
    with files.atomic(out) as temporary:
        save_file(tensors, temporary, metadata)
    rest = f"; left out: {', '.join(left_out)}" if left_out else ""
    console.say(f"{out}: {len(tensors)} tensors, {len(metadata)} maps of options{rest}")


Kept = tuple[dict[str, np.ndarray], dict[str, str], list[str]]


def read(path: Path) -> Kept:
    """(tensors, metadata, names of what is left out) of a checkpoint. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    if wrong := file_kind.mistaken(path):
        raise UserError(f"{path}: not a checkpoint: it {wrong}")
    file_kind.refuse_swollen(path)
    try:
        most = TIMES * path.stat().st_size + SLACK
        kept = select(inert.Plain(most).of(inert.tree(path)))
    except inert.TooMuch as error:
        raise UserError(f"{path}: {error}, which no checkpoint does; it is not read") from None
    except Exception as error:  # a damaged pickle raises anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:150]
        raise UserError(
            f"{path}: cannot be read as a checkpoint ({reason}): half a file?"
        ) from None
    if odd := [k for k in kept[0] if not isinstance(k, str)]:
        raise UserError(f"{path}: not a checkpoint: {odd[0]!r} is no name of a weight")
    if not kept[0]:
        raise UserError(f"{path}: no tensors in it, only {', '.join(kept[2][:8]) or 'nothing'}")
    return kept


def select(tree: Any) -> Kept:
    """What `read` gives, of a checkpoint whose tensors and arrays are made."""
    if not isinstance(tree, dict):
        raise ValueError(f"a {type(tree).__name__}, not a map of weights")
    key = next((k for k in STATES if isinstance(tree.get(k), dict)), None)
    state = tree if key is None else tree[key]
    tensors = {k: v for k, v in state.items() if isinstance(v, np.ndarray)}
    components = pca(tree.get("pca"))
    metadata = {k: json.dumps(_values(tree[k])) for k in OPTIONS if k in tree and key is not None}
    taken = {*metadata, *([key] if key else tensors), *(["pca"] if components else [])}
    return tensors | components, metadata, [str(k) for k in tree if k not in taken]


def pca(objects: Any) -> dict[str, np.ndarray]:
    """`pca.NAME.mean` and so on of a map of scikit-learn's fitted PCAs."""
    arrays = {}
    for name, fitted in objects.items() if isinstance(objects, dict) else ():
        state = fitted.state if isinstance(fitted, inert.Inert) else None
        for part in PCA:
            value = state.get(f"{part}_") if isinstance(state, dict) else None
            if isinstance(value, np.ndarray):
                arrays[f"pca.{name}.{part}"] = value
    return arrays


def _values(value: Any, left: list[int] | None = None) -> Any:
    """Plain values of `value` for JSON; whatever else is in it becomes null."""
    left = [MOST_VALUES] if left is None else left
    left[0] -= value.size if isinstance(value, np.ndarray) else 1
    if left[0] < 0:
        raise inert.TooMuch(f"has options of more than {MOST_VALUES} values")
    if isinstance(value, dict):
        return {str(k): _values(v, left) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_values(v, left) for v in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value if isinstance(value, (str, int, float, bool)) else None


if __name__ == "__main__":
    console.main(app)
