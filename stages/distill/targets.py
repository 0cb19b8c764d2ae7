"""What `fuse` wrote, checked once when it is read: batches, fused targets, prototypes."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core import store
from ..core.errors import UserError
from ..images.sets import TrainSet
from . import frames


def read_whitened(path: Path, views: TrainSet) -> store.Stored:
    """A teacher's whitened descriptors, row for row the stored `views`. Raises UserError.

    The teacher is the one that the file is named by.
    """
    stored = store.Stored(path, "whitened").of_teacher(path.stem)
    if stored.text("train") != views.digest or len(stored["descriptor"]) != len(views.view_image):
        raise UserError(f"{path}: of other stored views; extract and whiten again")
    return stored


def read_features(path: Path, views: TrainSet) -> store.Stored:
    """A teacher's own descriptors, row for row the stored `views`. Raises UserError."""
    stored = store.Stored(path, "features").of_teacher(path.stem)
    if stored.text("train") != views.digest or len(stored["descriptor"]) != len(views.view_image):
        raise UserError(f"{path}: of other stored views; extract again")
    return stored


def refuse_outside(rows: np.ndarray, count: int, where: str) -> None:
    """Raise UserError for row numbers that are not 0 to `count` - 1."""
    if rows.size and not (rows.min() >= 0 and rows.max() < count):
        raise UserError(f"{where} has rows outside 0..{count - 1}; fuse again")


@dataclass(frozen=True)
class Targets:
    """The plan of batches and their fused targets, one shard an epoch (`epoch-0000.h5` ...)."""

    shards: tuple[store.Stored, ...]
    held_out: store.Stored | None

    @classmethod
    def read(cls, folder: Path, views: TrainSet) -> "Targets":
        """Open every shard by name, checked against each other and against the stored views."""
        first = store.Stored(folder / "epoch-0000.h5", "targets")
        count = int(first.number("epochs", 1, 10_000)) if "epochs" in first.attributes else 1
        names = ["held-out.h5"] if first.number("held_out", 0, 1) else []
        rest = [store.Stored(folder / f"epoch-{e:04d}.h5", "targets") for e in range(1, count)]
        held = [store.Stored(folder / name, "targets") for name in names]
        for shard in (first, *rest, *held):
            if shard.text("train") != views.digest:
                raise UserError(f"{shard.path}: made for other stored views; fuse again")
            if shard.text("whitened") != first.text("whitened"):
                raise UserError(f"{shard.path}: of another ensemble than epoch-0000; fuse again")
            steps, batch = shard["anchor"].shape
            if (steps, batch) != first["anchor"].shape:
                raise UserError(f"{shard.path}: of another plan than epoch-0000; fuse again")
            if shard["positive"].shape != (steps, batch) or shard["target"].shape != (
                steps,
                batch,
                batch,
            ):
                raise UserError(f"{shard.path}: target does not fit anchor; fuse again")
            if not steps or not batch:
                raise UserError(f"{shard.path}: holds no batch; fuse again")
            for name in ("anchor", "positive"):
                refuse_outside(shard[name], len(views.view_image), f"{shard.path}: {name}")
        return cls((first, *rest), held[0] if held else None)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return len(self.shards[0]["anchor"])

    @property
    def batch(self) -> int:
        """Pairs in a batch."""
        return int(self.shards[0]["anchor"].shape[1])

    def rows(self, step: int) -> np.ndarray:
        """(2, N) view rows of batch `step`, counted from the start; the shards go round."""
        shard, local = self._at(step)
        return np.stack([shard["anchor"][local], shard["positive"][local]])

    def target(self, step: int) -> np.ndarray:
        """(N, N) float16 fused similarities of batch `step`."""
        shard, local = self._at(step)
        return shard["target"][local]

    def _at(self, step: int) -> tuple[store.Stored, int]:
        return self.shards[step // self.steps % len(self.shards)], step % self.steps


@dataclass(frozen=True)
class Prototypes:
    """`prototype` (p, dim) float32, unit rows; `view_prototype` (m,) the row of each view's."""

    prototype: np.ndarray
    view_prototype: np.ndarray

    @classmethod
    def read(cls, path: Path, targets: Targets, views: TrainSet) -> "Prototypes":
        """Read and check prototypes: of the same ensemble and views as the targets beside them."""
        f = store.Stored(path, "prototypes")
        if f.text("whitened") != targets.shards[0].text("whitened"):
            raise UserError(f"{path}: of another ensemble than the targets beside it; fuse again")
        if f.text("train") != views.digest or len(f["view_prototype"]) != len(views.view_image):
            raise UserError(f"{path}: made for other stored views; fuse again")
        refuse_outside(f["view_prototype"], len(f["prototype"]), f"{path}: view_prototype")
        return cls(np.asarray(f["prototype"], dtype=np.float32), np.asarray(f["view_prototype"]))


def frames_of(targets: Path) -> list[str]:
    """The frames that `fuse` wrote, the simplest first; earlier files name none."""
    own = store.Stored(targets / "prototypes.h5", "prototypes").attributes.get("frames")
    return [str(n) for n in json.loads(str(own))] if own else [frames.WHITENED]


def read_frames(
    folder: Path, targets: Targets, views: TrainSet, first: bool = False
) -> dict[str, Prototypes]:
    """The prototypes of each frame, the simplest frame first; of the `first` alone.

    Raises UserError where frames differ in more than the place of their prototypes.
    """
    names = frames_of(folder)[: 1 if first else None]
    read = {n: Prototypes.read(frames.prototypes_file(folder, n), targets, views) for n in names}
    one = read[names[0]]
    for name, other in read.items():
        if one.prototype.shape != other.prototype.shape or not np.array_equal(
            one.view_prototype, other.view_prototype
        ):
            raise UserError(f"{folder}: frame {name} is of another run of fuse; fuse again")
    return read
