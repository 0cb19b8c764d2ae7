"""What there is to see, and what is right: one file a dataset, `datasets/x.py` is dataset `x`.

A dataset is a module with a class `Settings` (its map in `params.yaml`, section `datasets`) and the
functions of `TrainingDataset`, of `EvaluationDataset`, or of both. To train or to evaluate on it
`training` or `evaluation` is enough; `status` tells `doctor` what is in place, and the counts tell
`plan` how much there is. Where a dataset reads files that lie outside of the project,
`watched(settings, name) -> Watched` tells the stage `look` which: images, lists, ground truths. A
text `PUBLISHED`, where it has one, says where the images are to be had.
"""

from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel

from ..core import params, plugins
from ..core.errors import UserError


@dataclass(frozen=True)
class Training:
    """Images to learn from: `group` (n,) int32 says which show the same, -1 none.

    Where `frames` (n,) is given they are videos of so many frames, and `path` is the folder of a
    video's frames (`0000.jpg`, `0001.jpg` and so on). The same holds for an Evaluation.
    """

    root: Path
    image_id: list[str]
    path: list[str]  # relative to root
    group: np.ndarray
    notes: list[str] = field(default_factory=list)  # what was left out and why, one line each
    frames: np.ndarray | None = None


@dataclass(frozen=True)
class Evaluation:
    """Images to search: `role` query, database or distractor; `box` (n, 4) pixels or NaN.

    `queries` is the ground truth in the form of the protocol, None for plain distractors.
    """

    root: Path
    image_id: list[str]
    path: list[str]
    role: list[str]
    box: np.ndarray
    protocol: str
    queries: list[dict[str, Any]] | None
    notes: list[str] = field(default_factory=list)
    frames: np.ndarray | None = None


class NotThere(UserError):
    """The folder or list of a dataset is not on this machine (now)."""


Watched = list[tuple[Path, list[str]]]  # folders, and the paths below each that a set is made of


@dataclass(frozen=True)
class Made:
    """Image files that `prepare` draws or decodes for a dataset, about."""

    images: int
    image_px: int  # long side of one
    bytes: float  # of all of them
    seconds: float  # of one core, for all of them


@dataclass(frozen=True)
class Counts:
    """How much there is, from settings and lists alone, so that files found broken later count too.

    `group` is that of a Training, None of an evaluation set. Of a set of videos `images` counts the
    videos and `frames` all their frames, about. `files`: some of the image files, where there are
    any yet.
    """

    images: int
    group: np.ndarray | None = None
    frames: int | None = None
    files: list[Path] = field(default_factory=list)
    made: Made | None = None  # what prepare has still to make, None: nothing
    notes: list[str] = field(default_factory=list)


class TrainingDataset(Protocol):
    """A dataset to train on. All of these raise UserError for what is missing or wrong."""

    Settings: type[BaseModel]

    def training(self, settings: Any, images: Path) -> Training:
        """The images; those that the dataset draws or decodes itself are written to `images`."""

    def count_training(self, settings: Any) -> Counts:
        """How many there are; nothing is decoded, drawn, encoded or written."""

    def status(self, settings: Any, name: str) -> str:
        """What is in place of the set `name` (empty: of the training set), in a line."""


class EvaluationDataset(Protocol):
    """A dataset to evaluate on; `name` is what section `evaluation` calls the set.

    A dataset of several sets gives the one of that name.
    """

    Settings: type[BaseModel]

    def evaluation(self, settings: Any, images: Path, name: str) -> Evaluation:
        """The images and the ground truth; `images` as for `training`."""

    def count_evaluation(self, settings: Any, name: str) -> Counts:
        """How many there are; nothing is decoded, drawn, encoded or written."""

    def status(self, settings: Any, name: str) -> str:
        """What is in place of the set `name`, in a line."""


def load(name: str, part: str, given: params.Parameters) -> tuple[ModuleType, Any]:
    """The dataset `name`, which must offer `part`, and its settings."""
    module = plugins.load(__name__, name)
    if not hasattr(module, part):
        raise UserError(f"{given.path}: dataset {name} has no {part} images")
    return module, given.dataset(name)


def count_training(given: params.Parameters) -> Counts:
    """The counts of the training set. Raises UserError where it cannot be counted."""
    name = given.training_set
    module, settings = load(name, "training", given)
    dataset: TrainingDataset = module  # type: ignore[assignment]
    _refuse_uncounted(dataset, "count_training", name)
    return dataset.count_training(settings)


def count_evaluation(given: params.Parameters, of: str) -> Counts:
    """The counts of the evaluation set `of`. Raises UserError where it cannot be counted."""
    name = given.evaluation[of].dataset
    module, settings = load(name, "evaluation", given)
    dataset: EvaluationDataset = module  # type: ignore[assignment]
    _refuse_uncounted(dataset, "count_evaluation", name)
    return dataset.count_evaluation(settings, of)


def _refuse_uncounted(dataset: object, function: str, name: str) -> None:
    if not hasattr(dataset, function):
        raise UserError(f"datasets/{name}.py has no {function}, so it can only be prepared")
