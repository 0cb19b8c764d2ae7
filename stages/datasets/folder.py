"""A folder of one's own images, a sub-folder for each instance (thing, place, product).

A seeded share of the sub-folders becomes the evaluation set, and those with a single image its
distractors. Images that lie in the root itself are trained on without a group.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..core.errors import UserError
from ..images.listing import walked
from . import Counts, Evaluation, Training, Watched, _images


class Settings(BaseModel):
    """Where the images are, and which of them to evaluate on."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    root: str = Field(description="folder with a sub-folder for each instance")
    seed: int = Field(ge=0, description="which sub-folders and which queries")
    evaluation_share: float = Field(ge=0, lt=1, description="share of the sub-folders; 0: no set")
    queries: int = Field(ge=1, description="queries per instance; one image is left to find")


@dataclass(frozen=True)
class Split:
    """The images by their use, as relative paths; instances by the name of their sub-folder."""

    root: Path
    training: dict[str, list[str]]
    loose: list[str]
    evaluation: dict[str, list[str]]
    distractors: list[str]
    skipped: list[str]  # lines on what was left out
    same: list[list[str]]  # copies by content


def training(settings: Settings, images: Path) -> Training:
    """The instances that are not evaluated on, and the images that lie in the root."""
    split = read_split(settings)
    if len(split.training) + len(split.loose) < 2:
        raise UserError(
            f"{split.root}: {len(split.training)} instances left to train on, "
            f"{len(split.evaluation)} for evaluation; training needs two at least: add sub-folders "
            f"of two or more images, or lower datasets.folder.evaluation_share"
        )
    number = _images.group_numbers(split.training)
    path = [p for paths in split.training.values() for p in paths] + split.loose
    group = [number[name] for name, paths in split.training.items() for _ in paths]
    aside = (
        f"{len(split.evaluation)} instances and {len(split.distractors)} single images "
        f"are kept for evaluation"
    )
    return Training(
        root=split.root,
        image_id=list(path),
        path=path,
        group=np.array(group + [-1] * len(split.loose), dtype=np.int32),
        notes=[*split.skipped, aside, *_images.note_copies(split.same, path)],
    )


def evaluation(settings: Settings, images: Path, name: str) -> Evaluation:
    """Of each chosen instance some queries, the rest to be found, among the distractors."""
    split = read_split(settings)
    if not split.evaluation:
        why = "datasets.folder.evaluation_share is 0" if not settings.evaluation_share else (
            f"{split.root} has no sub-folder of two or more images")  # fmt: skip
        raise UserError(f"evaluation.{name}: {why}, so there are no queries; take it out")
    path: list[str] = []
    role: list[str] = []
    queries = []
    for paths in split.evaluation.values():
        order = sorted(paths, key=lambda p: _images.rank(f"{settings.seed}/query/{p}"))
        chosen = set(order[: min(settings.queries, len(paths) - 1)])
        positive = [p for p in paths if p not in chosen]
        queries += [
            {"image_id": p, "positive": list(positive), "junk": []} for p in paths if p in chosen
        ]
        path += paths
        role += ["query" if p in chosen else "database" for p in paths]
    path += split.distractors
    role += ["distractor"] * len(split.distractors)
    return Evaluation(
        root=split.root,
        image_id=list(path),
        path=path,
        role=role,
        box=np.full((len(path), 4), np.nan, dtype=np.float32),
        protocol="positives",
        queries=queries,
        notes=_images.note_copies(split.same, path),
    )


def status(settings: Settings, name: str) -> str:
    """What is in place, in a line; nothing is decoded. Raises UserError without images."""
    root, paths = _listed(settings)
    instances = {path.split("/")[0] for path in paths if "/" in path}
    return f"{root}: {len(paths)} images, {len(instances)} sub-folders of them"


def watched(settings: Settings, name: str) -> Watched:
    """All images below the root."""
    root = _images.folder_at(settings.root, "datasets.folder.root")
    return [(root, walked(root, _images.SUFFIXES)[0])]


def count_training(settings: Settings) -> Counts:
    """The instances that are not evaluated on, and the images that lie in the root."""
    root, paths = _listed(settings)
    parts = split_of(root, paths, settings)
    number = _images.group_numbers(parts.training)
    group = [number[name] for name, own in parts.training.items() for _ in own]
    trained = [path for own in parts.training.values() for path in own] + parts.loose
    files = _images.sample(root, trained)
    return Counts(
        len(trained), np.array(group + [-1] * len(parts.loose), dtype=np.int32), files=files
    )


def count_evaluation(settings: Settings, name: str) -> Counts:
    """The instances that are evaluated on, and the distractors."""
    root, paths = _listed(settings)
    parts = split_of(root, paths, settings)
    evaluated = [path for own in parts.evaluation.values() for path in own] + parts.distractors
    return Counts(len(evaluated), files=_images.sample(root, evaluated))


def _listed(settings: Settings) -> tuple[Path, list[str]]:
    """(root, relative paths of its images by their suffix). Raises UserError without any."""
    root = _images.folder_at(settings.root, "datasets.folder.root")
    paths, _ = walked(root, _images.SUFFIXES)
    if not paths:
        raise UserError(f"{root}: no images in it; put them there, a sub-folder an instance")
    return root, paths


def read_split(settings: Settings) -> Split:
    """Look at every image and give it its use.

    Raises UserError without images, and where one image is on both sides.
    """
    root = _images.folder_at(settings.root, "datasets.folder.root")
    paths, skipped = _images.below(root)
    split = replace(
        split_of(root, paths, settings), skipped=skipped, same=_images.copies(root, paths)
    )
    learned = [p for own in split.training.values() for p in own] + split.loose
    scored = [p for own in split.evaluation.values() for p in own] + split.distractors
    _images.refuse_shared(root, split.same, learned, scored)
    return split


def split_of(root: Path, paths: list[str], settings: Settings) -> Split:
    """Images by relative path, each with its use; no file is opened."""
    instances: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        instances[path.split("/")[0] if "/" in path else ""].append(path)
    loose = instances.pop("", [])
    chosen = choose(instances, settings)
    single = [name for name, own in instances.items() if len(own) == 1 and chosen]
    return Split(
        root=root,
        training={n: own for n, own in instances.items() if n not in chosen and n not in single},
        loose=loose,
        evaluation={name: own for name, own in instances.items() if name in chosen},
        distractors=[instances[name][0] for name in single],
        skipped=[],
        same=[],
    )


def choose(instances: dict[str, list[str]], settings: Settings) -> set[str]:
    """The instances to evaluate on, one at least. A seeded order of names: more move few."""
    several = [name for name, own in instances.items() if len(own) > 1]
    count = round(settings.evaluation_share * len(several))
    if settings.evaluation_share > 0:
        count = max(count, 1)
    return set(sorted(several, key=lambda name: _images.rank(f"{settings.seed}/{name}"))[:count])
