"""A set's question: which rows ask, which are searched, what is right; with or without distractors.

A collection of distractors is described once for each model, and joined to the database of every
set that names it. The database is read where it lies, in blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core import protocol, store
from ..core.errors import UserError
from ..core.records import EvaluationSet, GroundTruth
from . import rank
from .rows import Array, Joined, Picked, Rows

Open = Callable[[Path], store.Stored]  # of a descriptor file
SAME = ("weights", "scales", "image_px")  # what a set and its distractors must agree on


@dataclass(frozen=True)
class Described:
    """One model's descriptors of a set: queries (in the order asked) and database."""

    query: Array
    database: Rows
    attributes: dict[str, Any]

    @property
    def dim(self) -> int:
        """Numbers a picture."""
        return int(self.query.shape[1])


@dataclass(frozen=True)
class Problem:
    """A set and its ground truth; `distractors` are searched behind its own database."""

    set: str
    pictures: EvaluationSet
    query: Array  # rows of the set, by the order of the ground truth
    own: Array  # rows of the set that are searched
    truth: GroundTruth
    distractor_set: str | None = None
    distractors: EvaluationSet | None = None

    @classmethod
    def read(cls, folder: Path, name: str) -> "Problem":
        """The set `name` of a folder and its ground truth."""
        pictures = EvaluationSet.read(folder / f"{name}.h5")
        own = np.flatnonzero(pictures.role != "query")
        where = folder / f"{name}.json"
        truth = GroundTruth.parse(store.read_json(where), pictures.image_id[own], str(where))
        row = {str(image_id): i for i, image_id in enumerate(pictures.image_id)}
        if missing := [q.image_id for q in truth.queries if q.image_id not in row]:
            raise UserError(f"{where}: query {missing[0]} is not in {name}.h5; run prepare again")
        query = np.array([row[q.image_id] for q in truth.queries], dtype=np.int64)
        return cls(name, pictures, query, own, truth)

    def among(self, folder: Path, name: str) -> "Problem":
        """The same question among the distractors of set `name` as well."""
        return replace(
            self, distractor_set=name, distractors=EvaluationSet.read(folder / f"{name}.h5")
        )

    @property
    def name(self) -> str:
        """What its scores are called: `roxford5k`, `roxford5k+revisitop1m`."""
        return self.set if self.distractor_set is None else f"{self.set}+{self.distractor_set}"

    @property
    def count(self) -> int:
        """Pictures searched."""
        return len(self.own) + (0 if self.distractors is None else len(self.distractors.image_id))

    def described(self, folder: Path, open_file: Open) -> Described:
        """A model's descriptors in `folder`; refuses those of other pictures or other settings."""
        stored = _of_set(open_file(folder / f"{self.set}.h5"), self.pictures, self.set)
        rows = stored["descriptor"]
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
            database = Joined([database, more["descriptor"]])
        return Described(rows[self.query], database, stored.attributes)

    def ranks(self, query: Array, database: Rows) -> list[dict[str, Array]]:
        """Ranks of each query's answers by kind, of unit rows (q, d) against (n, d)."""
        return rank.ranks(query, database, [q.answers for q in self.truth.queries])

    def protocol(self, described: Described, **changes: str) -> protocol.Protocol:
        """The rules of a score of `described`; `changes` are fields that say otherwise."""
        fields = protocol.of_descriptors(described.attributes, described.query.dtype)
        roles = self.pictures.role[self.own]
        extra = 0 if self.distractors is None else len(self.distractors.image_id)
        return protocol.Protocol(
            rules=self.truth.protocol,
            crop=protocol.crop_of(self.pictures, self.query),
            ground_truth=protocol.digest_of_truth(self.truth, self.pictures.image_id[self.own]),
            database=self.count,
            distractors=int((roles == "distractor").sum()) + extra,
            **{**fields, **changes},
        )

    def file(self, row: int) -> Path:
        """The picture of database row `row`."""
        if row < len(self.own):
            return self.pictures.file(int(self.own[row]))
        assert self.distractors is not None
        return self.distractors.file(row - len(self.own))

    def sample(self, rows: int, seed: int = 0) -> tuple[Array, Array]:
        """Some of the database, (n,) row numbers, and for them the verdicts (q, n) int8.

        Up to `rows` rows drawn by seed, and up to as many more of the queries' positives. Verdicts
        are 1 positive, 0 negative, -1 not to be counted: junk, and rows that are here only because
        they answer another query, which would make negatives look nearer than they are.
        """
        rng = np.random.default_rng(seed)
        drawn = np.sort(rng.permutation(self.count)[:rows])
        wanted = [v for q in self.truth.queries for v in _positives(q.answers)]
        positive = np.unique(np.concatenate(wanted)) if wanted else np.zeros(0, np.int64)
        kept = np.unique(np.r_[drawn, rng.permutation(positive)[:rows]]).astype(np.int64)
        verdict = np.where(np.isin(kept, drawn), 0, -1).astype(np.int8)
        mask = np.tile(verdict, (len(self.query), 1))
        for line, q in zip(mask, self.truth.queries, strict=True):
            line[np.isin(kept, np.concatenate([*_positives(q.answers), np.zeros(0, np.int64)]))] = 1
            line[np.isin(kept, q.answers.get("junk", ()))] = -1
        return kept, mask


def _positives(answers: dict[str, Array]) -> list[Array]:
    return [rows for kind, rows in answers.items() if kind not in ("junk", "negative")]


def _of_set(stored: store.Stored, pictures: EvaluationSet, name: str) -> store.Stored:
    if stored.attributes.get("set") != pictures.digest:
        raise UserError(f"{stored.path}: describes other pictures than set {name}; describe again")
    return stored
