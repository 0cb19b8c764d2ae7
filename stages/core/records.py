"""What the prepared files say, checked once when they are read: pictures, views, sets, answers."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import store
from .errors import UserError

ROLES = ("query", "database", "distractor")
# The lists of ids that a query has in each protocol; `negative` and `junk` may be empty.
ANSWERS = {
    "revisitop": ("easy", "hard", "junk"),
    "positives": ("positive", "junk"),
    "svd": ("positive", "negative"),
}


@dataclass(frozen=True)
class TrainSet:
    """The training pictures and their stored views (`data/prepared/train.h5`).

    n pictures, m views: `group` (n,) int32, -1 for none; `view_image` (m,) int32, ascending, the
    row of a view's picture; `view` (m, k) float32, its columns named by `columns`.
    """

    root: Path
    image_id: np.ndarray
    path: np.ndarray
    group: np.ndarray
    view_image: np.ndarray
    view: np.ndarray
    columns: tuple[str, ...]
    digest: str
    pictures: str = ""  # digest of the names and lengths that prepare met

    @classmethod
    def read(cls, path: Path) -> "TrainSet":
        """Read and check a train file. Raises UserError where its parts do not fit together."""
        f = store.Stored(path, "train")
        n, m = len(f["image_id"]), len(f["view_image"])
        if len(f["path"]) != n or len(f["group"]) != n or len(f["view"]) != m:
            raise UserError(f"{path}: its datasets have different lengths; run prepare again")
        columns = tuple(f.text("columns").split())
        if f["view"].ndim != 2 or f["view"].shape[1] != len(columns):
            raise UserError(f"{path}: view does not have the columns it names; run prepare again")
        views = np.asarray(f["view_image"])
        if m and (views[0] < 0 or views[-1] >= n or (np.diff(views) < 0).any()):
            raise UserError(f"{path}: view_image is not ascending within 0..{n - 1}")
        return cls(
            root=Path(f.text("root")),
            image_id=f["image_id"],
            path=f["path"],
            group=np.asarray(f["group"]),
            view_image=views,
            view=f["view"],
            columns=columns,
            digest=f.digest,
            pictures=str(f.attributes.get("pictures", "")),
        )

    def file(self, image: int) -> Path:
        """Path of picture `image` (a row)."""
        return self.root / str(self.path[image])

    def check_pictures(self) -> None:
        """Raise UserError where the pictures are not those that prepare met."""
        _check_pictures(self.root, self.path, self.pictures)

    def spans(self) -> np.ndarray:
        """(n + 1,) int64: the views of picture i are rows spans[i] to spans[i + 1]."""
        return np.searchsorted(self.view_image, np.arange(len(self.image_id) + 1))


@dataclass(frozen=True)
class EvaluationSet:
    """Pictures to describe (`<set>.h5`): `role` (n,), `box` (n, 4) float32 pixels or NaN."""

    root: Path
    image_id: np.ndarray
    path: np.ndarray
    role: np.ndarray
    box: np.ndarray
    digest: str
    pictures: str = ""  # digest of the names and lengths that prepare met

    @classmethod
    def read(cls, path: Path) -> "EvaluationSet":
        """Read and check an evaluation set. Raises UserError for wrong lengths or roles."""
        f = store.Stored(path, "evaluation")
        n = len(f["image_id"])
        role = f["role"]
        if len(f["path"]) != n or len(role) != n or f["box"].shape != (n, 4):
            raise UserError(f"{path}: its datasets have different lengths; run prepare again")
        if odd := set(role.tolist()) - set(ROLES):
            raise UserError(f"{path}: unknown roles {', '.join(sorted(odd))}")
        box = np.asarray(f["box"])
        pictures = str(f.attributes.get("pictures", ""))
        return cls(Path(f.text("root")), f["image_id"], f["path"], role, box, f.digest, pictures)

    def file(self, image: int) -> Path:
        """Path of picture `image` (a row)."""
        return self.root / str(self.path[image])

    def check_pictures(self) -> None:
        """Raise UserError where the pictures are not those that prepare met."""
        _check_pictures(self.root, self.path, self.pictures)

    def rectangle(self, image: int) -> tuple[float, ...] | None:
        """Box x0, y0, x1, y1 in pixels of picture `image`, or None for the whole of it."""
        box = self.box[image]
        return None if np.isnan(box).any() else tuple(float(v) for v in box)


def picture_digest(root: Path, paths: Iterable[str]) -> str:
    """Digest of the names and lengths of pictures. Raises UserError where some are missing."""
    hasher = hashlib.blake2b(digest_size=16)
    missing = []
    for path in paths:
        try:
            hasher.update(f"{path}\0{(root / path).stat().st_size}\n".encode())
        except FileNotFoundError:
            missing.append(path)
    if missing:
        raise UserError(f"{root}: {len(missing)} pictures are missing, the first: {missing[0]}")
    return hasher.hexdigest()


def _check_pictures(root: Path, paths: Iterable[str], digest: str) -> None:
    if digest and picture_digest(root, paths) != digest:
        raise UserError(
            f"{root}: not the pictures that prepare met (some have another length); "
            "prepare again: dvc repro --force --single-item prepare"
        )


@dataclass(frozen=True)
class Query:
    """One question and what is right: rows of the database by kind of answer."""

    image_id: str
    answers: dict[str, np.ndarray]


@dataclass(frozen=True)
class GroundTruth:
    """Which database pictures answer which query (`<set>.json`), as rows of the database."""

    protocol: str
    queries: tuple[Query, ...]

    @classmethod
    def parse(cls, values: Any, database: np.ndarray, where: str) -> "GroundTruth":
        """Resolve a ground-truth map against the ids of the `database`, in its order.

        Raises UserError for an unknown protocol, a missing list or an id that is not there.
        """
        protocol = values.get("protocol") if isinstance(values, dict) else None
        if protocol not in ANSWERS or not isinstance(values.get("queries"), list):
            raise UserError(f"{where}: no ground truth with a protocol of {', '.join(ANSWERS)}")
        row = {str(image): i for i, image in enumerate(database)}
        return cls(protocol, tuple(_query(q, protocol, row, where) for q in values["queries"]))


def _query(values: dict[str, Any], protocol: str, row: dict[str, int], where: str) -> Query:
    if not isinstance(values, dict) or "image_id" not in values:
        raise UserError(f"{where}: a query has no image_id")
    name, answers = str(values["image_id"]), {}
    for kind in ANSWERS[protocol]:
        ids = values.get(kind)
        if not isinstance(ids, list):
            raise UserError(f"{where}: query {name} has no list {kind!r}")
        if missing := [str(i) for i in ids if str(i) not in row]:
            raise UserError(
                f"{where}: query {name}: {len(missing)} ids of {kind!r} are not in the database, "
                f"the first: {missing[0]}"
            )
        answers[kind] = np.array(sorted({row[str(i)] for i in ids}), dtype=np.int64)
    return Query(name, answers)


@dataclass(frozen=True)
class Targets:
    """The plan of batches and their fused targets, one shard an epoch (`epoch-0000.h5` ...)."""

    shards: tuple[store.Stored, ...]
    held_out: store.Stored | None

    @classmethod
    def read(cls, folder: Path, views: TrainSet) -> "Targets":
        """Open every shard by name, checked against each other and against the stored views."""
        first = store.Stored(folder / "epoch-0000.h5", "targets")
        count = int(first.attributes.get("epochs", 1))
        rest = [store.Stored(folder / f"epoch-{e:04d}.h5", "targets") for e in range(1, count)]
        held = (
            [store.Stored(folder / "held-out.h5", "targets")] if int(first.text("held_out")) else []
        )
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
        return cls(np.asarray(f["prototype"], dtype=np.float32), np.asarray(f["view_prototype"]))
