"""The student: a timm backbone, pooled, L2, and a linear head; a folder that loads without us.

The folder has the layout of model hubs: `model.safetensors`, `config.json`, `README.md`.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core import files, params, store
from ..core.errors import UserError
from ..nets import checkpoints, weights
from ..nets.backbone import Backbone, statistics
from ..nets.layers import Normalise, l2n

OLD_KEY = re.compile(r"^trunk\.")  # of students of 0.1
CONFIG = {  # what config.json must say for the network to be built
    "model": str, "dim": int, "head": bool, "pool": str, "gem_p": float, "image_px": int,
    "mean": list, "std": list, "init": str,
}  # fmt: skip


class Student(nn.Module):
    """RGB (B, 3, H, W) in [0, 1] to L2-normalised descriptors (B, dim).

    `dim` None: no head, the pooled backbone itself.
    """

    def __init__(
        self, model: str, *, dim: int | None, image_px: int, pool: str = "auto", gem_p: float = 3.0
    ) -> None:
        super().__init__()
        self.backbone = Backbone(weights.timm_name(model), pool=pool, p=gem_p)
        mean, std = statistics(self.backbone.net)
        self.normalise = Normalise(mean, std)
        self.head = nn.Linear(self.backbone.dim, dim) if dim is not None else None
        self.dim = dim if dim is not None else self.backbone.dim
        self.image_px = image_px
        self.config: dict[str, Any] = {
            "model": weights.timm_name(model), "dim": self.dim, "head": dim is not None,
            "pool": self.backbone.pool, "gem_p": float(gem_p), "image_px": image_px,
            "mean": list(mean), "std": list(std), "init": "random",
        }  # fmt: skip

    def features(self, x: Tensor) -> Tensor:
        """(B, width): the pooled backbone, L2-normalised; what the head maps."""
        return l2n(self.backbone(self.normalise(x)))

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x)
        return l2n(self.head(y)) if self.head is not None else y


def create(
    model: str, *, dim: int | None, image_px: int, pool: str, gem_p: float, source: str, seed: int
) -> Student:
    """A student with its first weights: `source` is `pretrained`, `random` or a file.

    `config["init"]` says what it got. The head is drawn from `seed`. Raises hub.Missing where
    pretrained weights are not to be had.
    """
    torch.manual_seed(seed)
    student = Student(model, dim=dim, image_px=image_px, pool=pool, gem_p=gem_p)
    if source == "random":
        return student
    if source == "pretrained":
        state, origin = weights.pretrained(student.config["model"])
    else:
        state, origin = checkpoints.from_file(Path(source)), f"file:{Path(source).name}"
    net = student.backbone.net
    where = source if origin.startswith("file:") else origin
    weights.fill(net, state, where, unused=weights.classifiers(net))
    student.config["init"] = origin
    return student


def bare(student: Student) -> Student:
    """The same backbone without a head: what there was before any training."""
    c = student.config
    out = Student(c["model"], dim=None, image_px=c["image_px"], pool=c["pool"], gem_p=c["gem_p"])
    out.backbone.load_state_dict(student.backbone.state_dict())
    out.config["init"] = c["init"]
    return out.eval()


def weight_bytes(student: Student) -> int:
    """What the weights take of a disk."""
    return sum(value.nbytes for value in student.state_dict().values())


def save(student: Student, folder: Path, card: str, **config: Any) -> None:
    """Write `student` as a folder: weights, what it takes to load them, a card for people."""
    from safetensors.torch import save_file

    state = {k: v.detach().cpu().contiguous() for k, v in student.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    with files.atomic(folder / "model.safetensors") as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    config = {**student.config, **config, "format": store.file_format("student")}
    config["digest"] = files.digest_of_file(folder / "model.safetensors")
    files.write_text(folder / "config.json", files.to_json(config))
    files.write_text(folder / "README.md", card)


def keep_old_model(old_model: Path, folder: Path) -> None:
    """Keep the student that `folder`'s was made compatible with inside it, to be scored beside."""
    for name in ("model.safetensors", "config.json"):
        with files.atomic(folder / params.OLD_MODEL / name) as temporary:
            shutil.copyfile(old_model / name, temporary)


def forget(folder: Path) -> None:
    """Remove a student that another run left inside a student's folder."""
    shutil.rmtree(folder, ignore_errors=True)


def load(folder: Path) -> Student:
    """The student of a folder, in eval mode. Raises UserError where it is not whole or not ours."""
    config = files.read_json(folder / "config.json")
    for key, kind in CONFIG.items():
        if not isinstance(config, dict) or not isinstance(config.get(key), kind):
            raise UserError(f"{folder / 'config.json'}: {key} is missing or no {kind.__name__}")
    file = folder / "model.safetensors"
    if not file.is_file():
        raise UserError(f"{file}: no such file; a student's folder has it beside config.json")
    if files.digest_of_file(file) != config.get("digest"):
        raise UserError(f"{file}: not the weights that config.json describes; train again")
    try:
        student = Student(
            config["model"], dim=config["dim"] if config["head"] else None,
            image_px=config["image_px"], pool=config["pool"], gem_p=config["gem_p"],
        )  # fmt: skip
    except (RuntimeError, TypeError, ValueError) as error:
        line = str(error).splitlines()[0][:120]
        raise UserError(f"{folder / 'config.json'}: describes no network ({line})") from None
    state = {OLD_KEY.sub("backbone.", k): v for k, v in checkpoints.from_file(file).items()}
    weights.fill(student, state, str(file))
    student.config = {k: v for k, v in config.items() if k not in ("format", "digest")}
    return student.eval()
