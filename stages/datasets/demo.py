"""A generated world of landmarks: procedural buildings, deterministic, offline, drawn in a minute.

Training, evaluation and distractor buildings are disjoint. Every image is a pure function of the
settings, its building and its number: neither the number of workers nor a larger world changes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..core import files, parallel
from . import Counts, Evaluation, Made, Training
from ._demo.buildings import generator
from ._demo.facades import facade
from ._demo.scenes import Shot, look, render

JUNK_BELOW = 0.35  # share of the building in sight under which an image is junk
HARD_BELOW = 0.65
HARD_FROM = 0.6  # strength of the viewpoint
JPEG_QUALITY = 90
BYTES, SECONDS = 0.27, 1.6e-7  # of a drawn image and of one core, for each of its pixels, about
RATIO = 0.75  # short side of an image by its long side
ATTEMPTS = 400  # views tried for one that is as easy or hard as wanted; a few are enough


class Settings(BaseModel):
    """The world: how many buildings, how many images of each, and how hard they are."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    seed: int = Field(ge=0, description="another seed is another world")
    image_px: int = Field(ge=32, description="long side of an image, pixels")
    groups: int = Field(ge=2, description="training buildings")
    images: int = Field(ge=1, description="images per training building")
    evaluation_groups: int = Field(ge=1, description="buildings that queries show")
    evaluation_images: int = Field(ge=2, description="database images per evaluation building")
    queries: int = Field(ge=1, description="queries per evaluation building, extra images")
    distractors: int = Field(ge=0, description="images of other buildings, one each")
    twins: float = Field(ge=0, le=1, description="share of buildings that have a near-twin")
    difficulty: float = Field(ge=0, le=1, description="viewpoints, occluders and light: 0 easy")


@dataclass(frozen=True)
class Plan:
    """The images to draw of one building: file names, and the level (or none) wanted of each."""

    family: str
    number: int
    names: tuple[str, ...]
    levels: tuple[str | None, ...]


@dataclass(frozen=True)
class Drawn:
    """What became of one image."""

    name: str
    level: str  # easy, hard or junk
    box: tuple[float, float, float, float]


def training(settings: Settings, images: Path) -> Training:
    """Draw the training images into `images/train/<building>/<n>.jpg`."""
    plans = [
        Plan("train", group, tuple(f"train/{group:05d}/{n}.jpg" for n in range(settings.images)),
             (None,) * settings.images)
        for group in range(settings.groups)
    ]  # fmt: skip
    drawn = [shot for shots in _draw_all(settings, plans, images, "drawing") for shot in shots]
    return Training(
        root=images,
        image_id=[_image_id(shot.name) for shot in drawn],
        path=[shot.name for shot in drawn],
        group=np.repeat(np.arange(settings.groups, dtype=np.int32), settings.images),
        notes=[f"{settings.groups} generated buildings, {len(drawn)} images"],
    )


def evaluation(settings: Settings, images: Path, name: str = "") -> Evaluation:
    """Draw queries, database and distractors into `images/evaluation/`, with the ground truth."""
    plans = [_evaluation_plan(settings, number) for number in range(settings.evaluation_groups)]
    plans += [
        Plan("distractor", number, (f"evaluation/distractor/{number:05d}.jpg",), (None,))
        for number in range(settings.distractors)
    ]
    buildings = list(_draw_all(settings, plans, images, "drawing"))
    drawn = [shot for shots in buildings for shot in shots]
    role = [_role(shot.name) for shot in drawn]
    boxes = [_boxed(shot) for shot in drawn]
    junk = sum(shot.level == "junk" for shot in drawn)
    return Evaluation(
        root=images,
        image_id=[_image_id(shot.name) for shot in drawn],
        path=[shot.name for shot in drawn],
        role=role,
        box=np.array(boxes, np.float32).reshape(-1, 4),
        protocol="revisitop",
        queries=[
            query for shots in buildings[: settings.evaluation_groups] for query in _queries(shots)
        ],
        notes=[f"{settings.evaluation_groups} generated buildings, {junk} junk images"],
    )


def count_training(settings: Settings) -> Counts:
    """The training images of the world, drawn or not."""
    group = np.repeat(np.arange(settings.groups, dtype=np.int32), settings.images)
    return Counts(len(group), group, made=_made(settings, len(group)))


def count_evaluation(settings: Settings, name: str = "") -> Counts:
    """Queries, database and distractors of the world, drawn or not."""
    each = settings.evaluation_images + settings.queries
    count = settings.evaluation_groups * each + settings.distractors
    return Counts(count, made=_made(settings, count))


def status(settings: Settings, name: str) -> str:
    """How many images prepare draws."""
    count = count_evaluation(settings) if name else count_training(settings)
    return f"prepare draws {count.images} images {'to evaluate' if name else 'to train'} on"


def _made(settings: Settings, images: int) -> Made:
    pixels = images * RATIO * settings.image_px**2
    return Made(images, settings.image_px, pixels * BYTES, pixels * SECONDS)


def _evaluation_plan(settings: Settings, number: int) -> Plan:
    """Queries show their building well; the first two of the database are easy and hard."""
    folder = f"evaluation/{number:05d}"
    queries = tuple(f"{folder}/query_{n}.jpg" for n in range(settings.queries))
    database = tuple(f"{folder}/{n}.jpg" for n in range(settings.evaluation_images))
    wanted = ("easy",) * len(queries) + ("easy", "hard") + (None,) * (len(database) - 2)
    return Plan("evaluation", number, queries + database, wanted)


def _queries(shots: list[Drawn]) -> list[dict[str, Any]]:
    """The queries of one building, each with its database images by level."""
    database = [shot for shot in shots if _role(shot.name) == "database"]
    by_level = {
        level: [_image_id(shot.name) for shot in database if shot.level == level]
        for level in ("easy", "hard", "junk")
    }
    return [
        {"image_id": _image_id(shot.name), **{level: list(ids) for level, ids in by_level.items()}}
        for shot in shots
        if _role(shot.name) == "query"
    ]


def _role(name: str) -> str:
    if name.startswith("evaluation/distractor/"):
        return "distractor"
    return "query" if "/query_" in name else "database"


def _boxed(shot: Drawn) -> tuple[float, ...]:
    """The box of a query of an even building, as ROxford's have one; NaN for the rest."""
    even = _role(shot.name) == "query" and int(shot.name.split("/")[1]) % 2 == 0
    return shot.box if even else (float("nan"),) * 4


def _image_id(name: str) -> str:
    return name.removesuffix(".jpg")


def _level(shot: Shot) -> str:
    """What one may fairly expect of an image, from what it shows and how it was taken."""
    if shot.visible < JUNK_BELOW:
        return "junk"
    return "hard" if shot.visible < HARD_BELOW or shot.strength > HARD_FROM else "easy"


def _draw(task: tuple[Settings, Plan, Path]) -> list[Drawn]:
    """All images of one building, written; runs in a worker."""
    settings, plan, images = task
    building = facade(settings.seed, plan.family, plan.number, settings.twins)
    (images / plan.names[0]).parent.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, wanted in zip(plan.names, plan.levels, strict=True):
        for attempt in range(ATTEMPTS):
            rng = generator(settings.seed, name, attempt)
            shot = look(building, rng, settings.image_px, settings.difficulty)
            level = _level(shot)
            if wanted in (None, level):
                break
        else:
            raise RuntimeError(f"no {wanted} view of {name} in {ATTEMPTS} attempts")
        with files.atomic(images / name, sync=False) as scratch:
            image = render(building, shot, rng, settings.difficulty)
            image.save(scratch, "JPEG", quality=JPEG_QUALITY)
        drawn.append(Drawn(name, level, shot.box))
    return drawn


def _draw_all(
    settings: Settings, plans: list[Plan], images: Path, label: str
) -> Iterator[list[Drawn]]:
    """Draw the plans on all cores, in order."""
    tasks = [(settings, plan, images) for plan in plans]
    return parallel.each(_draw, tasks, label)  # a worker costs as much as some 60 images
