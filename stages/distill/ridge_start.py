"""What a student starts from: its head by regression, or an old model's descriptors."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ..core import console, runtime
from ..core.errors import UserError
from ..images.replay import Replay
from ..images.sets import TrainSet
from ..nets import embed
from . import student as students
from .averaging import head_by_pca
from .prototypes import Means, RidgeByGroups
from .shipping import Score, first_that_stands, rounded
from .student import Student
from .targets import Prototypes
from .whitening import l2n

RIDGE_VIEWS = 4000  # training views that the ridge start is fitted on
BATCH = 64  # views through the network at once


class FrameProbe(Protocol):
    """What measures a student on the validation groups, its backbone apart from its head."""

    def descriptors(self, net: embed.Network, /) -> np.ndarray: ...

    def of(self, descriptor: np.ndarray, /) -> Score: ...


@dataclass(frozen=True)
class Start:
    """A head (`weight` (dim, width), `bias` (dim,)) by ridge regression in the frame `name`."""

    name: str
    weight: np.ndarray
    bias: np.ndarray
    strength: float
    score: Score | None


@dataclass(frozen=True)
class Chosen:
    """The frame of the targets, and the ridge starts that were compared, the simplest first."""

    frame: str
    starts: tuple[Start, ...] = ()

    def table(self) -> list[dict[str, float | str | None]]:
        """Validation by frame, for config.json; empty where nothing was measured."""
        return [
            {"frame": s.name, "map": s.score.map, "error": rounded(s.score.error)}
            for s in self.starts
            if s.score is not None
        ]

    def said(self) -> Iterator[str]:
        """What a person reads of the choice; nothing where there was none."""
        scores = {s.name: s.score for s in self.starts if s.score is not None}
        if not scores:
            return
        yield "frames of the targets, mAP of their ridge starts on the validation groups:"
        first = next(iter(scores.values()))
        for name, score in scores.items():
            line = f"  {score.map:5.1f}  {name}"
            if score is not first:
                gain, error = score.gain_over(first)
                line += f" ({gain:+.1f} +- {error:.1f})"
            yield line
        yield f"frame {self.frame} is taken"


def sample(
    student: Student, views: TrainSet, view_px: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(rows, their (b, d) features): what the untrained backbone makes of training views."""
    m = len(views.view_image)
    rows = np.sort(np.random.default_rng(seed).permutation(m)[:RIDGE_VIEWS])
    return rows, features(student, views, rows, view_px, "untrained features", head=False)


def ridge(
    student: Student, rows: np.ndarray, backbone: np.ndarray, frames: dict[str, Prototypes],
    seed: int, probe: FrameProbe | None,
) -> Chosen:  # fmt: skip
    """Set the head by ridge regression from the features of view `rows` to their prototypes, in
    the frame whose ridge start retrieves best on the validation groups.

    `frames`: the prototypes of each, the simplest frame first, which is taken without a `probe`.
    """
    label = next(iter(frames.values())).view_prototype[rows]
    fits = RidgeByGroups(backbone, label, seed)
    measured = probe is not None and len(frames) > 1
    seen = probe.descriptors(student.eval().features) if probe and measured else None
    starts = []
    for name, one in frames.items():
        weight, bias, strength = fits.fit(one.prototype[label])
        score = probe.of(l2n(seen @ weight.T + bias)) if probe and seen is not None else None
        starts.append(Start(name, weight, bias, strength, score))
        if not measured:
            break
    chosen = first_that_stands(starts)
    console.say(f"ridge start from {len(rows)} views, strength {chosen.strength:g}")
    set_head(student, chosen.weight, chosen.bias)
    choice = Chosen(chosen.name, tuple(starts))
    for line in choice.said():
        console.say(line)
    return choice


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
