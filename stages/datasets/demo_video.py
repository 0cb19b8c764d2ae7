"""A generated world of short videos: real .mp4 files, near-duplicates of each other or not.

A source video shows landmarks of the demo world, a few seconds each, by a moving camera. Its copies
are what people make of a video: cut, played faster or slower, cropped, framed, with stickers and a
strip of text, in other colours, encoded again. Negatives show the same landmarks in other
images. Every video is a pure function of the settings, its source and its number.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..core import parallel
from . import Counts, Evaluation, Made, Training, _videos
from ._demo import clips

FPS = 1.0  # frames a second that are described
# About, for a look ahead: seconds of a video as a share of the longest; bytes and seconds of
# one core for each pixel of a frame that is described (its JPEG, and its share of the video file).
LENGTH, BYTES, SECONDS = 0.77, 0.36, 5e-7


class Settings(BaseModel):
    """The world: how many videos of each kind, how long, and how far copies are from sources."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    seed: int = Field(ge=0, description="another seed is another world")
    width_px: int = Field(ge=32, multiple_of=2, description="of a video; the height is 4/3 of it")
    fps: int = Field(ge=2, le=60, description="frames a second of a video")
    seconds: int = Field(ge=2, description="length of the longest source")
    sources: int = Field(ge=2, description="source videos to train on")
    copies: int = Field(ge=0, description="copies of each source to train on")
    queries: int = Field(ge=1, description="source videos that are queries")
    positives: int = Field(ge=1, description="copies of each query")
    negatives: int = Field(ge=0, description="of each query: its landmarks in other images")
    unlabelled: int = Field(ge=0, description="videos of other landmarks")
    difficulty: float = Field(ge=0, le=1, description="how far copies are from their source")


@dataclass(frozen=True)
class Family:
    """The videos made of one source, by their ids: the source first where `source` is set."""

    kind: str
    number: int
    copies: int
    negatives: int

    def ids(self) -> dict[str, list[str]]:
        """Ids by kind: source (one), copy, negative."""
        base = f"{self.kind}-{self.number:05d}"
        return {
            "source": [f"{base}-source"],
            "copy": [f"{base}-copy-{n}" for n in range(self.copies)],
            "negative": [f"{base}-other-{n}" for n in range(self.negatives)],
        }


def training(settings: Settings, images: Path) -> Training:
    """Draw `images/videos/train-*.mp4` and decode them to `images/frames/`."""
    ids, decoded = _make(settings, _trained(settings), images)
    group = np.array([int(i.split("-")[1]) for i in ids], dtype=np.int32)
    return Training(
        root=images,
        image_id=ids,
        path=[f"frames/{i}" for i in ids],
        group=group,
        notes=[_note(settings.sources, "source videos", decoded), *decoded.notes()],
        frames=decoded.frames(ids),
    )


def evaluation(settings: Settings, images: Path, name: str = "") -> Evaluation:
    """Draw queries, their copies and negatives, and unlabelled videos, with the ground truth."""
    queries, rest = _queries(settings), _unlabelled(settings)
    ids, decoded = _make(settings, [*queries, *rest], images)
    role = {f.ids()["source"][0]: "query" for f in queries}
    role |= {f.ids()["source"][0]: "distractor" for f in rest}
    return Evaluation(
        root=images,
        image_id=ids,
        path=[f"frames/{i}" for i in ids],
        role=[role.get(i, "database") for i in ids],
        box=np.full((len(ids), 4), np.nan, np.float32),
        protocol="svd",
        queries=[_query(f) for f in queries],
        notes=[_note(len(queries), "queries", decoded), *decoded.notes()],
        frames=decoded.frames(ids),
    )


def count_training(settings: Settings) -> Counts:
    """The training videos of the world, encoded or not."""
    videos = settings.copies + 1
    group = np.repeat(np.arange(settings.sources, dtype=np.int32), videos)
    return _counts(settings, len(group), group)


def count_evaluation(settings: Settings, name: str = "") -> Counts:
    """Queries, their copies and negatives, and unlabelled videos, encoded or not."""
    families = [*_queries(settings), *_unlabelled(settings)]
    return _counts(settings, sum(1 + f.copies + f.negatives for f in families))


def status(settings: Settings, name: str) -> str:
    """How many videos prepare draws."""
    count = count_evaluation(settings) if name else count_training(settings)
    return f"prepare draws {count.images} videos {'to evaluate' if name else 'to train'} on"


def _counts(settings: Settings, videos: int, group: np.ndarray | None = None) -> Counts:
    frames = round(videos * max(LENGTH * settings.seconds * FPS, 1.0))
    width, height = _size(settings)
    pixels = frames * width * height
    made = Made(frames, max(width, height), pixels * BYTES, pixels * SECONDS)
    return Counts(videos, group, frames, made=made)


def _trained(settings: Settings) -> list[Family]:
    return [Family("train", n, settings.copies, 0) for n in range(settings.sources)]


def _queries(settings: Settings) -> list[Family]:
    positives, negatives = settings.positives, settings.negatives
    return [Family("query", n, positives, negatives) for n in range(settings.queries)]


def _unlabelled(settings: Settings) -> list[Family]:
    return [Family("unlabelled", n, 0, 0) for n in range(settings.unlabelled)]


def _size(settings: Settings) -> tuple[int, int]:
    """(width, height) of a video, pixels; both even, as encoders want them."""
    return settings.width_px, settings.width_px * 4 // 3 // 2 * 2


def _query(family: Family) -> dict[str, Any]:
    ids = family.ids()
    return {"image_id": ids["source"][0], "positive": ids["copy"], "negative": ids["negative"]}


def _make(
    settings: Settings, families: list[Family], images: Path
) -> tuple[list[str], _videos.Decoded]:
    """Draw and encode the families, decode every video: (ids, frames of each)."""
    (images / "videos").mkdir(parents=True, exist_ok=True)
    tasks = [(settings, family, images / "videos") for family in families]
    for _ in parallel.each(_encode, tasks, "drawing videos"):
        pass
    ids = [i for f in families for kind in f.ids().values() for i in kind]
    by = _videos.Decoding(images / "frames", FPS, settings.seconds, None)
    paths = {i: images / "videos" / f"{i}.mp4" for i in ids}
    return ids, _videos.decode(paths, by, families[0].kind)


def _encode(task: tuple[Settings, Family, Path]) -> None:
    """All videos of one family, written; runs in a worker."""
    settings, family, folder = task
    size = _size(settings)
    ids = family.ids()
    source = clips.source(settings.seed, family.kind, family.number, size, settings.seconds)
    plain = clips.plain(settings.seed, ids["source"][0])
    clips.encode(folder / f"{ids['source'][0]}.mp4", source, plain, size, settings.fps)
    for name in ids["copy"]:
        edit = clips.edit(settings.seed, name, settings.difficulty)
        clips.encode(folder / f"{name}.mp4", source, edit, size, settings.fps)
    for n, name in enumerate(ids["negative"], 1):
        other = clips.source(
            settings.seed, family.kind, family.number, size, settings.seconds, take=n
        )
        plain = clips.plain(settings.seed, name)
        clips.encode(folder / f"{name}.mp4", other, plain, size, settings.fps)


def _note(count: int, what: str, decoded: _videos.Decoded) -> str:
    frames = sum(decoded.count.values())
    return f"{count} generated {what}, {len(decoded.count)} videos, {frames} frames at 1 a second"
