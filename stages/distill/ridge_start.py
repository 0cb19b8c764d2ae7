"""What a student starts from: its head by regression, or an old model's descriptors."""

from pathlib import Path

import numpy as np
import torch

from ..core import console, runtime
from ..core.errors import UserError
from ..images.replay import Replay
from ..images.sets import TrainSet
from ..nets import embed
from . import student as students
from .averaging import head_by_pca
from .prototypes import Means, ridge_by_groups
from .student import Student
from .targets import Prototypes

RIDGE_VIEWS = 4000  # training views that the ridge start is fitted on
BATCH = 64  # views through the network at once


def sample(
    student: Student, views: TrainSet, view_px: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(rows, their (b, d) features): what the untrained backbone makes of training views."""
    m = len(views.view_image)
    rows = np.sort(np.random.default_rng(seed).permutation(m)[:RIDGE_VIEWS])
    return rows, features(student, views, rows, view_px, "untrained features", head=False)


def ridge(
    student: Student, rows: np.ndarray, backbone: np.ndarray, prototypes: Prototypes, seed: int
) -> None:
    """Set the head by ridge regression from the features of view `rows` to their prototypes."""
    label = prototypes.view_prototype[rows]
    weight, bias, strength = ridge_by_groups(backbone, prototypes.prototype[label], label, seed)
    console.say(f"ridge start from {len(rows)} views, strength {strength:g}")
    set_head(student, weight, bias)


def untrained_head(student: Student, backbone: np.ndarray) -> dict[str, torch.Tensor]:
    """The weights of `student`, untrained, its head the PCA of the features."""
    state = {k: v.detach().cpu().clone() for k, v in student.state_dict().items()}
    weight, bias = head_by_pca(backbone, student.dim)
    state["head.weight"] = torch.from_numpy(weight).float()
    state["head.bias"] = torch.from_numpy(bias).float()
    return state


def set_head(student: Student, weight: np.ndarray, bias: np.ndarray) -> None:
    """Give the student's head these weights (dim, width) and bias (dim,)."""
    assert student.head is not None
    with torch.no_grad():
        student.head.weight.copy_(torch.from_numpy(weight))
        student.head.bias.copy_(torch.from_numpy(bias))


def old_model_prototypes(
    folder: Path, dim: int, views: TrainSet, prototypes: Prototypes
) -> Prototypes:
    """Prototypes as an old model sees them, so that its index stays valid."""
    old_model = students.load(folder)
    if old_model.dim != dim:
        raise UserError(
            f"train.compatible_with: {folder} has {old_model.dim} dimensions, the new student "
            f"{dim}; set fuse.dim to {old_model.dim}"
        )
    embed.ready(old_model, runtime.device())
    rows = np.arange(len(views.view_image))
    descriptor = features(
        old_model, views, rows, old_model.config.get("view_px", old_model.image_px), "the old model"
    )
    means = Means(len(prototypes.prototype), dim)
    means.add(prototypes.view_prototype, descriptor)
    return Prototypes(means.result(), prototypes.view_prototype)


def features(
    student: Student, views: TrainSet, rows: np.ndarray, px: int, label: str, head: bool = True
) -> np.ndarray:
    """(b, d) float32 of view rows: descriptors, or what the head maps."""

    def name(job: np.ndarray, row: int) -> str:
        return str(views.file(*views.source(int(job[row]))))

    net = student.eval() if head else student.eval().features
    jobs = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    described = embed.descriptors(
        net, Replay(views, px).rows, jobs, scales=None, device=runtime.device(), label=label,
        name=name,
    )  # fmt: skip
    return np.concatenate([part for _, part in described])
