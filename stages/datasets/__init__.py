"""What there is to see, and what is right: one file a dataset, `datasets/x.py` is dataset `x`.

A dataset offers `Settings` (its map in `params.yaml`, section `datasets`) and one or both of
`training(settings, images) -> Training` and `evaluation(settings, images, name) -> Evaluation`,
where `images` is the folder for images that the dataset draws itself, and `name` is what section
`evaluation` calls the set: a dataset of several sets gives the one of that name.
"""

from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

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


def load(name: str, part: str, given: params.Parameters) -> tuple[ModuleType, Any]:
    """The dataset `name`, which must offer `part`, and its settings."""
    module = plugins.load(__name__, name)
    if not hasattr(module, part):
        raise UserError(f"{given.path}: dataset {name} has no {part} images")
    return module, given.dataset(name)
