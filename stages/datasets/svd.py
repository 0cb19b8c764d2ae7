"""SVD, short videos and their near-duplicates: 1,206 queries, 34,020 labelled, 526,787 unlabelled.

Jiang et al., ICCV 2019; svdbase.github.io. Its metadata are lists of ids (`unlabeled-data-id`: one
a line) and labels (`train_groundtruth`, `test_groundtruth`: query, candidate, 1 or 0). Frames lie
in `frames/<id>/0000.jpg`, one a second; where `videos` is given they are decoded from there.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..core import console
from ..core.errors import UserError
from ..images import video_frames
from ..images.listing import walked
from ..images.sets import frame_path
from . import Counts, Evaluation, Made, NotThere, Training, Watched, _videos
from ._images import named
from ._svd_lists import Labels, groups, read_ids, read_labels

PUBLISHED = "svdbase.github.io, by agreement with its authors"
LOOKED_AT = 1000  # videos whose frames are counted to tell how many all of them have
# About, for a look ahead: bytes of a decoded frame for each of its pixels; its long side where the
# settings keep it as it is; seconds of one core that a second of video takes.
BYTES, FRAME_PX, SECONDS = 0.25, 720, 0.15


class Settings(BaseModel):
    """Where the metadata, the videos and the frames are."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    metadata: str = Field(description="folder of the official lists")
    frames: str = Field(description="folder of frames, one folder a video")
    videos: str | None = Field(description="folder of the videos to decode; null: none to decode")
    fps: float = Field(gt=0, description="frames a second that are decoded")
    frame_px: int | None = Field(description="long side of a decoded frame; null: as it is")
    max_frames: int = Field(ge=1, description="frames of a video that count, the first ones")


def training(settings: Settings, images: Path) -> Training:
    """Videos of the training ground truth; near-duplicates of each other are one group.

    Videos that the test ground truth names too are left out.
    """
    labels, ids = _trained(settings)
    decoded = _frames(settings, ids, [], "training")
    good = [i for i in ids if i in decoded.count]
    shared = len(_members(labels)) - len(ids)
    notes = [f"{shared} videos left out that test_groundtruth names too"] if shared else []
    return Training(
        root=_folder(settings.frames, "frames"),
        image_id=good,
        path=good,
        group=groups(labels, good),
        notes=notes + decoded.notes(_listed(settings, "training")),
        frames=decoded.frames(good),
    )


def evaluation(settings: Settings, images: Path, name: str = "") -> Evaluation:
    """The test queries, what is labelled for them, and all unlabelled videos.

    Broken videos are left out, of the ground truth too; a query without a whole near-duplicate has
    no positives. Unlabelled videos that are not there are counted: many cannot be had any more.
    """
    labels, labelled, unlabelled = _evaluated(settings)
    decoded = _frames(settings, labelled, unlabelled, "evaluation")
    queries = {q: _whole(own, decoded) for q, own in labels.items() if q in decoded.count}
    candidates = {c for own in queries.values() for c in own}
    kept = [i for i in [*labelled, *unlabelled] if i in decoded.count]
    role = {i: "distractor" for i in unlabelled}
    role |= {i: "database" if i in candidates else "query" for i in labelled}
    lost = len(unlabelled) - sum(i in decoded.count or i in decoded.broken for i in unlabelled)
    notes = [f"{lost} of {len(unlabelled)} unlabelled videos are not there"] if lost else []
    if absent := [q for q in labels if q not in decoded.count]:
        notes.append(f"{len(absent)} queries left out, their videos are broken: {named(absent)}")
    return Evaluation(
        root=_folder(settings.frames, "frames"),
        image_id=kept,
        path=kept,
        role=[role[i] for i in kept],
        box=np.full((len(kept), 4), np.nan, np.float32),
        protocol="svd",
        queries=[
            {"image_id": q, "positive": [c for c in own if own[c]],
             "negative": [c for c in own if not own[c]]}
            for q, own in queries.items()
        ],
        notes=notes + decoded.notes(_listed(settings, "evaluation")),
        frames=decoded.frames(kept),
    )  # fmt: skip


def count_training(settings: Settings) -> Counts:
    """Videos of the training ground truth; frames as of some of those that are decoded."""
    labels, ids = _trained(settings)
    folder, present = _present(settings)
    _refuse_missing([i for i in ids if i not in present], folder, "training")
    return _counts(settings, ids, groups(labels, ids))


def count_evaluation(settings: Settings, name: str = "") -> Counts:
    """Videos to evaluate on that are there; frames as of some of those that are decoded."""
    _, labelled, unlabelled = _evaluated(settings)
    folder, present = _present(settings)
    _refuse_missing([i for i in labelled if i not in present], folder, "evaluation")
    return _counts(settings, [*labelled, *(i for i in unlabelled if i in present)])


def _counts(settings: Settings, ids: list[str], group: np.ndarray | None = None) -> Counts:
    """Of videos that are there. Where none of the videos looked at is decoded, each of them is
    taken to have as many frames as count at most."""
    folder = Path(settings.frames).expanduser()
    some = ids[:: max(len(ids) // LOOKED_AT, 1)]
    decoded = [i for i in some if (folder / i).is_dir()]
    numbers = [len(os.listdir(folder / i)) for i in decoded]
    mean = float(np.minimum(numbers, settings.max_frames).mean()) if numbers else None
    frames = round(len(ids) * (settings.max_frames if mean is None else mean))
    left = frames * (1 - len(decoded) / max(len(some), 1)) if settings.videos else 0.0
    px = settings.frame_px or FRAME_PX
    made = Made(round(left), px, left * BYTES * 0.75 * px**2, left * SECONDS / settings.fps)
    notes = [f"frames are decoded to {folder}, beside data/"] if left else []
    if mean is None:
        notes.append(f"none is decoded yet: {settings.max_frames} frames a video are assumed")
    files = [folder / frame_path(i, 0) for i in decoded[:: max(len(decoded) // 64, 1)]]
    return Counts(len(ids), group, frames, files, made if left else None, notes)


def watched(settings: Settings, name: str) -> Watched:
    """The lists, and the videos to decode; of frames that were decoded elsewhere the folders."""
    lists = ("train_groundtruth", "test_groundtruth", "unlabeled-data-id")
    folder, present = _present(settings)
    paths = sorted(os.path.relpath(path, folder) for path in present.values())
    return [(_folder(settings.metadata, "metadata"), list(lists)), (folder, paths)]


def status(settings: Settings, name: str) -> str:
    """What is in place, in a line; nothing is decoded. Raises UserError."""
    tables = ("train_groundtruth", "test_groundtruth")
    labelled = {i for t in tables for i in _members(read_labels(_list(settings, t)))}
    free = [i for i in read_ids(_list(settings, "unlabeled-data-id")) if i not in labelled]
    folder, present = _present(settings)
    if absent := sorted(labelled - present.keys()):
        raise UserError(f"{folder}: {len(absent)} labelled videos are not there: {named(absent)}")
    count = sum(i in present for i in free)
    return f"{folder}: {len(labelled)} labelled videos, {count} of {len(free)} unlabelled ones"


def _trained(settings: Settings) -> tuple[Labels, list[str]]:
    """(labels, videos to train on): those of the training ground truth that are no test videos."""
    labels = read_labels(_list(settings, "train_groundtruth"))
    tested = set(_members(read_labels(_list(settings, "test_groundtruth"))))
    ids = [i for i in _members(labels) if i not in tested]
    if not ids:
        raise UserError(f"{settings.metadata}: train_groundtruth names no video but test ones")
    return labels, ids


def _evaluated(settings: Settings) -> tuple[Labels, list[str], list[str]]:
    """(labels, labelled videos, unlabelled ones) of the test ground truth."""
    labels = read_labels(_list(settings, "test_groundtruth"))
    labelled = _members(labels)
    known = set(labelled)
    unlabelled = [i for i in read_ids(_list(settings, "unlabeled-data-id")) if i not in known]
    return labels, labelled, unlabelled


def _frames(settings: Settings, needed: list[str], wanted: list[str], part: str) -> _videos.Decoded:
    """Frames of the videos; those `needed` must be there, those `wanted` may be missing."""
    folder, present = _present(settings)
    _refuse_missing([i for i in needed if i not in present], folder, part)
    ids = [*needed, *(i for i in wanted if i in present)]
    if settings.videos is None:
        return _videos.counted(folder, ids, settings.max_frames)
    by = _videos.Decoding(
        Path(settings.frames).expanduser(), settings.fps, settings.max_frames, settings.frame_px
    )
    by.check("datasets.svd.frames")
    videos = {i: present[i] for i in ids}
    _videos.forget_changed(folder, videos, by.frames)
    return _videos.decode(videos, by, part)


def _present(settings: Settings) -> tuple[Path, dict[str, Path]]:
    """(where videos are looked for, those there by id): files to decode, else folders of frames."""
    if settings.videos is None:
        folder = _folder(settings.frames, "frames")
        return folder, {name: folder / name for name in os.listdir(folder)}
    folder = _folder(settings.videos, "videos")
    return folder, below(folder)


def below(folder: Path) -> dict[str, Path]:
    """Videos of a folder and its sub-folders by id (the name without its suffix).

    Raises UserError where two have the same.
    """
    file_of: dict[str, Path] = {}
    videos, left_out = walked(folder, video_frames.SUFFIXES, "videos")
    for line in left_out:
        console.say(f"{folder}: {line}")
    for file in (folder / video for video in videos):
        if file_of.setdefault(file.stem, file) != file:
            raise UserError(f"{file}: {file_of[file.stem]} is video {file.stem} too; remove one")
    return file_of


def _folder(path: str, key: str) -> Path:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise NotThere(f"datasets.svd.{key}: {path}: no such folder; SVD is given by agreement")
    return folder


def _refuse_missing(absent: list[str], folder: Path, part: str) -> None:
    if absent:
        table = {"training": "train_groundtruth", "evaluation": "test_groundtruth"}[part]
        raise UserError(
            f"{folder}: {len(absent)} videos that {table} names are not there: {named(absent)}; "
            "get them, or take their lines out of it"
        )


def _whole(own: dict[str, bool], decoded: _videos.Decoded) -> dict[str, bool]:
    return {c: same for c, same in own.items() if c in decoded.count}


def _members(labels: Labels) -> list[str]:
    """Queries first, then candidates; each once."""
    return list(dict.fromkeys([*labels, *(c for own in labels.values() for c in own)]))


def _listed(settings: Settings, part: str) -> Path | None:
    frames = Path(settings.frames).expanduser()
    return _videos.broken_list(frames, part) if settings.videos else None


def _list(settings: Settings, name: str) -> Path:
    folder = _folder(settings.metadata, "metadata")
    if not (folder / name).is_file():
        raise UserError(f"{folder}: no {name}; metadata-release.zip of svdbase.github.io has it")
    return folder / name
