"""A set and its ground truth: queries, database, positives; with or without distractors.

A collection of distractors is described once for each model, and joined to the database of every
set that names it. The database is read where it lies, in blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core import contents, files, store
from ..core.errors import UserError
from ..images.sets import EvaluationSet
from . import rank, scoring_rules, video
from .ground_truth import GroundTruth
from .lazy_rows import Array, Joined, Mapped, Picked, Rows, Unit
from .video import Clips

Open = Callable[[Path], store.Stored]  # of a descriptor file
SAME = ("weights", "scales", "image_px")  # what a set and its distractors must agree on


@dataclass(frozen=True)
class Described:
    """One model's descriptors of a set: queries (in the order of the ground truth) and database.

    Of videos both are `Clips`: the frames of all videos of the set, read when they are needed.
    """

    query: Array | Clips
    database: Rows | Clips
    dim: int  # dimensions
    dtype: Any
    attributes: dict[str, Any]


def mapped(function: Callable[..., Array], *rows: Any) -> Any:
    """`function` of rows in the same places: of arrays now, of Rows or Clips when they are read."""
    if isinstance(rows[0], Clips):
        return Clips(Mapped(function, *(clips.rows for clips in rows)), rows[0].start)
    if all(isinstance(r, np.ndarray) for r in rows):
        return function(*rows)
    return Mapped(function, *rows)


@dataclass(frozen=True)
class Benchmark:
    """A set and its ground truth; `distractors` are searched behind its own database."""

    set: str
    images: EvaluationSet
    query: Array  # rows of the set, by the order of the ground truth
    own: Array  # rows of the set that are searched
    truth: GroundTruth
    similarity: str = "chamfer"  # of videos
    distractor_set: str | None = None
    distractors: EvaluationSet | None = None

    @classmethod
    def read(cls, folder: Path, name: str, similarity: str = "chamfer") -> "Benchmark":
        """The set `name` of a folder and its ground truth."""
        images = EvaluationSet.read(folder / f"{name}.h5")
        own = np.flatnonzero(images.role != "query")
        where = folder / f"{name}.json"
        truth = GroundTruth.parse(files.read_json(where), images.image_id[own], str(where))
        row = {str(image_id): i for i, image_id in enumerate(images.image_id)}
        if missing := [q.image_id for q in truth.queries if q.image_id not in row]:
            raise UserError(f"{where}: query {missing[0]} is not in {name}.h5; run prepare again")
        query = np.array([row[q.image_id] for q in truth.queries], dtype=np.int64)
        return cls(name, images, query, own, truth, similarity)

    def among(self, folder: Path, name: str) -> "Benchmark":
        """The same queries among the distractors of set `name` as well."""
        if self.images.start is not None:
            raise UserError(f"{self.set}: distractors of videos are a part of their own set")
        return replace(
            self, distractor_set=name, distractors=EvaluationSet.read(folder / f"{name}.h5")
        )

    @property
    def name(self) -> str:
        """What its scores are called: `roxford5k`, `roxford5k+revisitop1m`."""
        return self.set if self.distractor_set is None else f"{self.set}+{self.distractor_set}"

    @property
    def count(self) -> int:
        """Images searched."""
        return len(self.own) + (0 if self.distractors is None else len(self.distractors.image_id))

    def described(self, folder: Path, open_file: Open) -> Described:
        """A model's descriptors in `folder`; refuses those of other images or other settings."""
        stored = _of_set(open_file(folder / f"{self.set}.h5"), self.images, self.set)
        if len(stored["descriptor"]) != self.images.count:
            raise UserError(
                f"{stored.path}: not a row for each image of {self.set}; describe again"
            )
        rows = stored["descriptor"]
        about = (int(rows.shape[1]), rows.dtype, stored.attributes)
        if self.images.start is not None:
            clips = Clips(rows, self.images.start)
            return Described(clips.take(self.query), clips, *about)
        database: Rows = Picked(rows, self.own)
        if self.distractors is not None and self.distractor_set is not None:
            file = folder / f"{self.distractor_set}.h5"
            more = _of_set(open_file(file), self.distractors, self.distractor_set)
            a, b = stored.attributes, more.attributes
            if rows.shape[1] != more["descriptor"].shape[1] or any(
                a.get(k) != b.get(k) for k in SAME
            ):
                raise UserError(
                    f"{file}: described otherwise than {stored.path}; describe both again"
                )
            if len(more["descriptor"]) != self.distractors.count:
                raise UserError(f"{file}: not a row for each image of the set; describe again")
            database = Joined([database, more["descriptor"]])
        return Described(rows[self.query], database, *about)

    def ranks(self, query: Any, database: Any) -> list[dict[str, Array]]:
        """Ranks by list of the ground truth, of each query: unit rows (q, d) against (n, d)."""
        if isinstance(query, Clips):
            return video.ranks(self._compared(query, database), self.truth.lists)
        return rank.ranks(query, database, self.truth.lists, self.truth.protocol.masked)

    def first_rows(self, query: Any, database: Any, k: int) -> Array:
        """(q, k) rows of the database that come first for each query."""
        if isinstance(query, Clips):
            return np.array([rank.top(row, k) for row in self._compared(query, database)])
        mask = self.truth.lists if self.truth.protocol.masked else None
        return rank.first_rows(query, database, k, mask)

    def similarities(self, query: Any, database: Any, rows: Array) -> Array:
        """(q, b) float32 similarities of the queries with some rows of the database."""
        if isinstance(query, Clips):
            return video.similarities(query, database.take(self.own[rows]), self.similarity)
        return query.astype(np.float32) @ database[rows].astype(np.float32).T

    def _compared(self, query: Clips, database: Clips) -> Array:
        """(q, n) float32 similarities of videos; -inf where one is no candidate."""
        sims = video.similarities(query, database, self.similarity, self.own)
        if self.truth.protocol.masked:
            rank.masked(sims, self.truth.lists, rank.labelled(self.truth.lists))
        return sims

    def rules(self, described: Described, **changes: str) -> scoring_rules.ScoringRules:
        """The rules of a score of `described`; `changes` are fields that say otherwise."""
        fields = scoring_rules.of_descriptors(described.attributes, described.dtype)
        roles = self.images.role[self.own]
        extra = 0 if self.distractors is None else len(self.distractors.image_id)
        return scoring_rules.ScoringRules(
            rules=scoring_rules.rules_of(
                self.truth, None if self.images.start is None else self.similarity
            ),
            crop=scoring_rules.crop_of(self.images, self.query),
            ground_truth=scoring_rules.digest_of_truth(self.truth, self.images.image_id[self.own]),
            database=self.count,
            distractors=int((roles == "distractor").sum()) + extra,
            **{**fields, **changes},
        )

    def file(self, row: int) -> Path:
        """The image of database row `row`; of a video its middle frame."""
        if row < len(self.own):
            return self.images.thumbnail(int(self.own[row]))
        assert self.distractors is not None
        return self.distractors.file(row - len(self.own))

    def sample(self, rows: int, seed: int = 0) -> tuple[Array, Array]:
        """Some of the database, (n,) row numbers, and for them the verdicts (q, n) int8.

        Up to `rows` rows drawn by seed, and up to as many more of the queries' positives. Verdicts
        are 1 positive, 0 negative, -1 not to be counted: junk, and rows that are here only because
        they are positives of another query, which would make negatives look nearer than they are.
        """
        rng = np.random.default_rng(seed)
        drawn = np.sort(rng.permutation(self.count)[:rows])
        positives, junk = self.truth.positives, self.truth.junk
        positive = np.unique(np.concatenate([*positives, np.zeros(0, np.int64)]))
        kept = np.unique(np.r_[drawn, rng.permutation(positive)[:rows]]).astype(np.int64)
        verdict = np.where(np.isin(kept, drawn), 0, -1).astype(np.int8)
        verdicts = np.tile(verdict, (len(self.query), 1))
        if self.truth.protocol.masked:
            verdicts[:, np.isin(kept, rank.labelled(self.truth.lists))] = -1  # for other queries
            for line, lists in zip(verdicts, self.truth.lists, strict=True):
                line[np.isin(kept, rank.all_rows(lists))] = 0
        for line, right, left_out in zip(verdicts, positives, junk, strict=True):
            line[np.isin(kept, right)] = 1
            line[np.isin(kept, left_out)] = -1
        return kept, verdicts


def unit(described: Described) -> tuple[Any, Any]:
    """(queries, database) of unit length, as they are compared: cosines of what is stored."""
    query, database = described.query, described.database
    if isinstance(query, Clips):
        return mapped(contents.unit, query), mapped(contents.unit, database)
    return contents.unit(query), Unit(database)  # type: ignore[arg-type]


def _of_set(stored: store.Stored, images: EvaluationSet, name: str) -> store.Stored:
    if stored.attributes.get("set") != images.digest:
        raise UserError(f"{stored.path}: describes other images than set {name}; describe again")
    if not stored.unit:
        raise UserError(f"{stored.path}: its rows are not of unit length; describe again")
    return stored
