"""How much there is to see, for `plan`: from what `prepare` wrote, else as the datasets count it.

Nothing is decoded, drawn or encoded: lists are read, and of some image files the headers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ... import datasets
from ...core.errors import UserError
from ...core.params import Parameters
from ...distill import batches
from ...images import reading, views
from ...images.sets import EvaluationSet, TrainSet

SAMPLE = 64  # image files whose headers and lengths stand for all


@dataclass(frozen=True)
class World:
    """Numbers of training images (or videos), of their stored views, of groups that can be a row of
    a batch, of images of validation groups and of images to evaluate on.

    `described` and `measured` are images to describe: of videos all frames of the evaluation sets
    and of the validation groups. `files`: some image files, to time reading on. `made`: image files
    that `prepare` has still to make, where the datasets say so.
    """

    images: int
    views: int
    groups: int
    validation: int
    evaluation: int
    described: int
    measured: int
    source: str
    videos: bool = False
    files: list[Path] = field(default_factory=list)
    made: list[datasets.Made] = field(default_factory=list)
    made_bytes: float = 0.0  # of the image files that prepare makes or made
    notes: list[str] = field(default_factory=list)

    @property
    def noun(self) -> str:
        """What `images` counts."""
        return "videos" if self.videos else "images"

    def pixels(self, default: float) -> float:
        """Pixels of an image: the mean of `files`, else of what is to be made, else `default`."""
        shapes = [shape for shape in map(_shape, self.files) if shape]
        if shapes:
            return float(np.mean([width * height for width, height in shapes]))
        return 0.75 * max(m.image_px for m in self.made) ** 2 if self.made else default


def counted(given: Parameters, prepared: Path) -> World:
    """From what `prepare` wrote, else from the datasets themselves. Raises UserError."""
    file = prepared / "train.h5"
    if file.is_file():
        return written(given, prepared)
    try:
        return listed(given)
    except UserError as error:
        raise UserError(f"{error}; or plan for --images N --groups M") from None


def written(given: Parameters, prepared: Path) -> World:
    """From the files of `prepare`."""
    file = prepared / "train.h5"
    train = TrainSet.read(file)
    sets = [EvaluationSet.read(prepared / "evaluation" / f"{s}.h5") for s in given.evaluation]
    validation = []
    if (prepared / "validation.h5").is_file():
        validation = [EvaluationSet.read(prepared / "validation.h5")]
    step = max(len(train.view_image) // SAMPLE, 1)
    shown = [train.file(*train.source(v)) for v in range(0, len(train.view_image), step)]
    return World(
        images=len(train.path),
        views=len(train.view_image),
        groups=int(batches.units(train.group).max()) + 1,
        validation=sum(len(s.image_id) for s in validation),
        evaluation=sum(len(s.image_id) for s in sets),
        described=sum(s.count for s in sets),
        measured=sum(s.count for s in validation),
        source=str(file),
        videos=train.videos,
        files=[f for f in shown if f.is_file()],
        made_bytes=float(sum(f.stat().st_size for f in (prepared / "images").rglob("*.*"))),
    )


def listed(given: Parameters) -> World:
    """From the datasets themselves. Raises UserError, a line, for what is not there."""
    train = datasets.count_training(given)
    sets = [datasets.count_evaluation(given, of) for of in given.evaluation]
    return after_split(given.values, train, sets, f"as dataset {given.training_set} counts them")


def imagined(values: dict[str, Any], images: int, groups: int) -> World:
    """So many images in so many groups of one size; nothing to evaluate on is counted."""
    train = datasets.Counts(images, np.arange(images) % groups)
    return after_split(values, train, [], "--images and --groups")


def after_split(
    values: dict[str, Any], train: datasets.Counts, sets: Sequence[datasets.Counts], source: str
) -> World:
    """What is left to train on once validation groups are taken out, and its views, about."""
    p, group, videos = values["prepare"], train.group, train.frames is not None
    assert group is not None, "counts of a training set have its groups"
    several = views.group_sizes(group) > 1
    kept = np.where(several, 1 - p["validation_share"], 1.0)  # of each image, on average
    alone = np.full(len(group), -1)
    labelled, loose = (
        views.expected_counts(g, epochs=p["epochs"], most=p["views"]) for g in (group, alone)
    )
    if videos:  # two views show the same frame
        labelled, loose = labelled + labelled % 2, loose + loose % 2
    share = np.where(group >= 0, p["labelled_share"], 0.0)
    count = float((kept * (share * labelled + (1 - share) * loose)).sum())
    units = kept * (share / views.group_sizes(group) + (1 - share))
    images = float(kept.sum())
    validation = round(len(group) - images)
    frames_each = (train.frames or 0) / max(train.images, 1) if videos else 1.0
    made = [c.made for c in (train, *sets) if c.made is not None]
    return World(
        images=round(images),
        views=round(count),
        groups=round(float(units.sum())),
        validation=validation,
        evaluation=sum(c.images for c in sets),
        described=sum(c.images if c.frames is None else c.frames for c in sets),
        measured=round(validation * frames_each),
        source=f"{source}; about",
        videos=videos,
        files=train.files,
        made=made,
        made_bytes=sum(m.bytes for m in made),
        notes=list(dict.fromkeys(note for c in (train, *sets) for note in c.notes)),
    )


def _shape(file: Path) -> tuple[int, int] | None:
    """(width, height), None where the file cannot be read."""
    try:
        return reading.shape(file)
    except UserError:
        return None
