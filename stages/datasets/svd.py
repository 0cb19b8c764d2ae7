"""SVD, short videos and their near-duplicates: 1,206 queries, 34,020 labelled, 526,787 unlabelled.

Jiang et al., ICCV 2019; svdbase.github.io. Its metadata are lists of ids (`unlabeled-data-id`: one
a line) and labels (`train_groundtruth`, `test_groundtruth`: query, candidate, 1 or 0). Frames lie
in `frames/<id>/0000.jpg`, one a second; where `videos` is given they are decoded from there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..core.errors import UserError
from ..images import video_frames as core_videos
from . import Evaluation, Training, _videos
from ._images import named

PUBLISHED = "svdbase.github.io, by agreement with its authors"
SUFFIX = ".mp4"
Labels = dict[str, dict[str, bool]]  # query -> candidate -> whether it is a near-duplicate


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
    labels = read_labels(_list(settings, "train_groundtruth"))
    tested = set(_members(read_labels(_list(settings, "test_groundtruth"))))
    ids = [i for i in _members(labels) if i not in tested]
    if not ids:
        raise UserError(f"{settings.metadata}: train_groundtruth names no video but test ones")
    found = _frames(settings, ids, [], "training")
    good = [i for i in ids if i in found.count]
    shared = len(_members(labels)) - len(ids)
    notes = [f"{shared} videos left out that test_groundtruth names too"] if shared else []
    return Training(
        root=_folder(settings.frames, "frames"),
        image_id=good,
        path=good,
        group=groups(labels, good),
        notes=notes + found.notes(_listed(settings, "training")),
        frames=found.frames(good),
    )


def evaluation(settings: Settings, images: Path, name: str = "") -> Evaluation:
    """The test queries, what is labelled for them, and all unlabelled videos.

    Broken videos are left out, of the ground truth too; a query without a whole near-duplicate asks
    nothing. Unlabelled videos that are not there are counted: many cannot be had any more.
    """
    labels = read_labels(_list(settings, "test_groundtruth"))
    labelled = _members(labels)
    known = set(labelled)
    unlabelled = [i for i in read_ids(_list(settings, "unlabeled-data-id")) if i not in known]
    found = _frames(settings, labelled, unlabelled, "evaluation")
    asked = {q: _whole(own, found) for q, own in labels.items() if q in found.count}
    candidates = {c for own in asked.values() for c in own}
    kept = [i for i in [*labelled, *unlabelled] if i in found.count]
    role = {i: "distractor" for i in unlabelled}
    role |= {i: "database" if i in candidates else "query" for i in labelled}
    lost = len(unlabelled) - sum(i in found.count or i in found.broken for i in unlabelled)
    notes = [f"{lost} of {len(unlabelled)} unlabelled videos are not there"] if lost else []
    if absent := [q for q in labels if q not in found.count]:
        notes.append(f"{len(absent)} queries ask nothing, they are broken: {named(absent)}")
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
            for q, own in asked.items()
        ],
        notes=notes + found.notes(_listed(settings, "evaluation")),
        frames=found.frames(kept),
    )  # fmt: skip


def status(settings: Settings, name: str) -> str:
    """What is in place, in a line; nothing is decoded. Raises UserError."""
    tables = ("train_groundtruth", "test_groundtruth")
    labelled = {i for t in tables for i in _members(read_labels(_list(settings, t)))}
    free = [i for i in read_ids(_list(settings, "unlabeled-data-id")) if i not in labelled]
    folder, there = _present(settings)
    if absent := sorted(labelled - there.keys()):
        raise UserError(f"{folder}: {len(absent)} labelled videos are not there: {named(absent)}")
    here = sum(i in there for i in free)
    return f"{folder}: {len(labelled)} labelled videos, {here} of {len(free)} unlabelled ones"


def read_ids(path: Path) -> list[str]:
    """Ids, one a line, without `.mp4`; each once. Raises UserError."""
    ids = [_id(line.strip(), path, n) for n, line in _lines(path)]
    return list(dict.fromkeys(ids))


def read_labels(path: Path) -> Labels:
    """Lines `query candidate label` as a map. Raises UserError with the number of a bad line."""
    labels: Labels = {}
    for n, line in _lines(path):
        fields = line.split()
        if len(fields) != 3 or fields[2] not in ("0", "1"):
            raise UserError(f"{path}: line {n}: expected a query, a candidate and 0 or 1")
        query, candidate = (_id(f, path, n) for f in fields[:2])
        own = labels.setdefault(query, {})
        if own.setdefault(candidate, fields[2] == "1") != (fields[2] == "1"):
            raise UserError(f"{path}: line {n}: {candidate} is 0 and 1 for query {query}")
    if not labels:
        raise UserError(f"{path}: no line in it; download it again")
    return labels


def groups(labels: Labels, ids: list[str]) -> np.ndarray:
    """(n,) int32: videos that positive labels connect have one number; -1 for those alone."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = name = parent[parent[name]]
        return name

    for query, own in labels.items():
        for candidate, same in own.items():
            if same:
                parent[root(candidate)] = root(query)
    number: dict[str, int] = {}
    joined = [number.setdefault(root(i), len(number)) if i in parent else -1 for i in ids]
    found = np.array(joined, dtype=np.int32)
    sizes = np.bincount(found[found >= 0], minlength=len(number))
    return np.where((found >= 0) & (sizes[np.maximum(found, 0)] > 1), found, -1).astype(np.int32)


def _frames(settings: Settings, needed: list[str], wanted: list[str], part: str) -> _videos.Found:
    """Frames of the videos; those `needed` must be there, those `wanted` may be missing."""
    folder, there = _present(settings)
    _refuse_missing([i for i in needed if i not in there], folder, part)
    ids = [*needed, *(i for i in wanted if i in there)]
    if settings.videos is None:
        return _videos.counted(folder, ids, settings.max_frames)
    by = _videos.Decoding(
        Path(settings.frames).expanduser(), settings.fps, settings.max_frames, settings.frame_px
    )
    by.check("datasets.svd.frames")
    return _videos.decode({i: there[i] for i in ids}, by, part)


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
    found: dict[str, Path] = {}
    for here, inner, names in os.walk(folder):
        inner.sort()
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in core_videos.SUFFIXES and not name.startswith("."):
                file = Path(here) / name
                if found.setdefault(stem, file) != file:
                    raise UserError(f"{file}: {found[stem]} is video {stem} too; remove one")
    return found


def _folder(path: str, key: str) -> Path:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"datasets.svd.{key}: {path}: no such folder; SVD is given by agreement")
    return folder


def _refuse_missing(absent: list[str], folder: Path, part: str) -> None:
    if absent:
        table = {"training": "train_groundtruth", "evaluation": "test_groundtruth"}[part]
        raise UserError(
            f"{folder}: {len(absent)} videos that {table} names are not there: {named(absent)}; "
            "get them, or take their lines out of it"
        )


def _whole(own: dict[str, bool], found: _videos.Found) -> dict[str, bool]:
    return {c: same for c, same in own.items() if c in found.count}


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


def _lines(path: Path) -> Iterable[tuple[int, str]]:
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not text; unpack it again") from None
    return [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]


def _id(text: str, path: Path, line: int) -> str:
    """An id becomes a path: no separators, no leading dot."""
    name = text.removesuffix(SUFFIX)
    if not name or name.startswith(".") or any(c in name for c in "/\\ \t\0"):
        raise UserError(f"{path}: line {line}: {text[:60]!r} is not a video's id")
    return name
