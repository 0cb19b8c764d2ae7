"""How much a match means: precision and recall of the first results that reach a threshold.

Every known image whose thing has other images asks. It is searched for among the known images and
those of the index; an image of the index that is not known counts as another thing.
"""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import faiss_index
from .generations import Index

FIRST = 10  # results of a search that count
RELIABLE_FROM = 0.8  # precision from which a match is shown green
USABLE_FROM = 0.5  # precision that some threshold must reach
LEAST_RECALL = 0.05  # a threshold that finds less is no proof of anything


@dataclass(frozen=True)
class Labelled:
    """Described images: the group of what each shows, and the row of its set that it is of (its
    own, or the video's whose frame it is)."""

    rows: np.ndarray
    group: np.ndarray
    source: np.ndarray
    files: list[str]

    @property
    def videos(self) -> bool:
        """Whether the images are frames of videos."""
        return len(np.unique(self.source)) < len(self.source)

    def among(self, files: list[str]) -> np.ndarray:
        """(n,) whether each of `files` is one of these images, or a frame of one of the videos."""
        place = os.path.dirname if self.videos else str
        mine = {place(file) for file in self.files}
        return np.array([place(file) in mine for file in files], dtype=bool)


@dataclass(frozen=True)
class Results:
    """The first results of all queries: `score` and `right` (r,), best first; `findable`: how many
    right ones the queries could have among their first results."""

    score: np.ndarray
    right: np.ndarray
    findable: int

    def at(self, threshold: float) -> dict[str, float | None]:
        """Precision and recall of the results that reach `threshold`; None of nothing."""
        matched = self.score >= threshold
        right = int((matched & self.right).sum())
        return {
            "precision": round(right / int(matched.sum()), 4) if matched.any() else None,
            "recall": round(right / self.findable, 4) if self.findable else None,
        }

    def best(self) -> float:
        """The highest precision of a threshold that finds enough to tell."""
        precision, recall, _ = self._curve()
        return float(precision[recall >= LEAST_RECALL].max(initial=0.0))

    def reaching(self, precision: float) -> float | None:
        """The threshold of most recall with at least this precision; None where there is none."""
        reached, recall, score = self._curve()
        good = np.flatnonzero((reached >= precision) & (recall >= LEAST_RECALL))
        return float(score[good[-1]]) if len(good) else None

    def _curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(precision, recall, threshold) at each score that differs from the next one."""
        last = np.flatnonzero(np.append(np.diff(self.score) != 0, len(self.score) > 0))
        right = np.cumsum(self.right)[last]
        return right / (last + 1), right / max(self.findable, 1), self.score[last]


def first_results(index: Index, known: Labelled) -> Results:
    """What a search finds for every known image whose thing has others."""
    copies = known.among(index.files())
    same = known.group[:, None] == known.group
    other = known.source[:, None] != known.source
    queries = np.flatnonzero((same & other).any(1))
    scores = known.rows @ faiss_index.seen(index.index, known.rows).T
    most = min(FIRST + int(copies.sum()), len(index))
    strangers: tuple[Any, Any] = ([()] * len(queries), [()] * len(queries))
    if most and len(queries):
        strangers = index.search(known.rows[queries], most)
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    findable = 0
    for query, strange, rows in zip(queries.tolist(), *strangers, strict=True):
        mine = np.flatnonzero(other[query])
        unknown = [s for s, row in zip(strange, rows, strict=True) if row >= 0 and not copies[row]]
        score = np.concatenate([scores[query, mine], np.array(unknown, np.float32)])
        right = np.concatenate([same[query, mine], np.zeros(len(unknown), bool)])
        first = np.argsort(-score, kind="stable")[:FIRST]
        kept.append((score[first], right[first]))
        findable += min(int(right.sum()), FIRST)
    score, right = (np.concatenate([k[i] for k in kept]) if kept else np.zeros(0) for i in (0, 1))
    order = np.argsort(-score, kind="stable")
    return Results(score[order].astype(np.float32), right[order].astype(bool), findable)


def meaning(results: Results, threshold: float) -> dict[str, Any]:
    """What the calibration keeps: precision and recall of matches, whether any would be usable."""
    best = results.best()
    usable = best >= USABLE_FROM or not results.findable
    return {**results.at(threshold), "best_precision": round(best, 4), "usable": usable}


def about(calibration: dict[str, Any] | None) -> dict[str, Any]:
    """The fields of an answer: what a match means. `reliable` is what green says; where nothing is
    `usable`, `match` still tells what reaches the threshold, for programs, and people see none."""
    own = calibration or {}
    precision = own.get("precision")
    return {
        "threshold": own.get("threshold"), "usable": bool(own) and own.get("usable", True),
        "precision": precision, "recall": own.get("recall"),
        "reliable": precision is not None and precision >= RELIABLE_FROM,
    }  # fmt: skip


def words(calibration: dict[str, Any] | None) -> str:
    """What a match means, in a line; empty where the index is not calibrated."""
    if not calibration:
        return ""
    if "precision" not in calibration:
        return (
            "how many matches are right is not known: this index was calibrated by an earlier "
            "version; run `whiten-mtd calibrate` again"
        )
    if not calibration["usable"]:
        best = 100 * calibration["best_precision"]
        return (
            f"no threshold is usable: at the best one {best:.0f} % of the matches were right on "
            "the validation groups; no result is shown as a match"
        )
    if calibration["precision"] is None:
        return "how many matches are right is not known: no validation image had a match"
    return (
        f"on the validation groups {100 * calibration['precision']:.0f} % of the matches among the "
        f"first {FIRST} results were right, and {100 * (calibration['recall'] or 0):.0f} % of the "
        "right results there were matches"
    )
