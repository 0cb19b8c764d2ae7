"""Score described pictures: rankings, mAP, pictures to look at. No network is loaded.

    python -m stages.evaluate data/prepared/evaluation data/described models/whitening data/results

For each evaluation set with a ground truth: the student, the untrained student, every teacher raw
and whitened, the whitened ensemble concatenated (`fused`), and, for a student trained on
prototypes, its queries on the ensemble's fused embeddings (`asymmetric`).
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from .core import console, params, store
from .core.errors import UserError
from .core.records import EvaluationSet, GroundTruth
from .distill import prototypes, whitening
from .distill.whitening import Whitening
from .retrieval import metrics, rank, video
from .retrieval.video import Clips

app = console.app()
PLOTTED = 2000  # videos of a database whose similarities are drawn, beside those that answer


class Params(params.Section):
    """Section `evaluate` of params.yaml."""

    sheet_queries: int = Field(ge=0)
    sheet_results: int = Field(ge=1, le=20)
    similarity: Literal["chamfer", "max", "mean", "mean_pooled", "max_pooled"]


Rows = Any  # an array (n, d) of pictures, or the Clips of n videos
Pair = tuple[Rows, Rows]  # queries, database


@dataclass(frozen=True)
class Described:
    """One model's descriptors of a set, split into queries (in the order asked) and database.

    Rows (n, d) of pictures; of videos their frames, made what they are when they are read.
    """

    query: Rows
    database: Rows
    dim: int
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """A set's question: which rows ask, which are searched, what is right."""

    name: str
    pictures: EvaluationSet
    query: np.ndarray  # rows of the set, by the order of the ground truth
    database: np.ndarray  # rows of the set
    truth: GroundTruth
    similarity: str  # of videos

    @classmethod
    def read(cls, folder: Path, name: str, similarity: str) -> "Problem":
        """The set `name` and its ground truth."""
        pictures = EvaluationSet.read(folder / f"{name}.h5")
        database = np.flatnonzero(pictures.role != "query")
        where = folder / f"{name}.json"
        truth = GroundTruth.parse(store.read_json(where), pictures.image_id[database], str(where))
        row = {str(image_id): i for i, image_id in enumerate(pictures.image_id)}
        if missing := [q.image_id for q in truth.queries if q.image_id not in row]:
            raise UserError(f"{where}: query {missing[0]} is not in {name}.h5; run prepare again")
        query = np.array([row[q.image_id] for q in truth.queries], dtype=np.int64)
        return cls(name, pictures, query, database, truth, similarity)

    def described(self, file: Path) -> Described:
        """Read `file` and split its rows; refuses descriptors of other pictures."""
        stored = store.Stored(file, "descriptors")
        if stored.attributes.get("set") != self.pictures.digest:
            raise UserError(
                f"{file}: describes other pictures than set {self.name}; describe again"
            )
        rows = stored["descriptor"]
        if self.pictures.start is None:
            query, database = rows[self.query], rows[self.database]
            return Described(query, database, rows.shape[1], stored.attributes)
        clips = Clips((rows,), self.pictures.start)
        return Described(clips.take(self.query), clips, rows.shape[1], stored.attributes)

    @property
    def answers(self) -> list[dict[str, np.ndarray]]:
        """Rows of the database by kind of answer, for each query."""
        return [q.answers for q in self.truth.queries]

    def ranks(self, query: Rows, database: Rows) -> list[dict[str, np.ndarray]]:
        """Ranks of each query's answers by kind, of unit rows (q, d) against (n, d)."""
        if isinstance(query, Clips) and isinstance(database, Clips):
            return video.ranks(self.compared(query, database), self.answers)
        return rank.ranks(query, database, self.answers)

    def compared(self, query: Clips, database: Clips) -> np.ndarray:
        """(q, n) float32 similarities of videos; -inf where one is no candidate."""
        sims = video.similarities(query, database, self.similarity, self.database)
        return video.masked(sims, self.answers) if self.truth.protocol == "svd" else sims

    def first_rows(self, query: Rows, database: Rows, k: int) -> np.ndarray:
        """(q, k) rows of the database that come first for each query."""
        if isinstance(query, Clips) and isinstance(database, Clips):
            return np.array([rank.top(row, k) for row in self.compared(query, database)])
        return rank.first_rows(query, database, k)

    def kinds(self) -> np.ndarray:
        """(q, n) int8: 1 where a row is right, 0 where it is wrong, -1 where it does not count."""
        kind = np.zeros((len(self.query), len(self.database)), dtype=np.int8)
        if self.truth.protocol == "svd":
            kind[np.isneginf(video.masked(np.zeros(kind.shape, np.float32), self.answers))] = -1
        for row, answers in zip(kind, self.answers, strict=True):
            for name, rows in answers.items():
                row[rows] = {"junk": -1, "negative": 0}.get(name, 1)
        return kind

    def plotted(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """Similarities (q, m) to draw and their `kinds`; of many videos a part of them."""
        query, database = pair
        kind = self.kinds()
        if not (isinstance(query, Clips) and isinstance(database, Clips)):
            return query.astype(np.float32) @ database.astype(np.float32).T, kind
        unasked = np.flatnonzero((kind == 0).all(0))[PLOTTED:]
        columns = np.setdiff1d(np.arange(len(self.database)), unasked)
        part = database.take(self.database[columns])
        return video.similarities(query, part, self.similarity), kind[:, columns]


@app.command()
def main(
    evaluation: Path,
    described: Path,
    whitenings: Path,
    results: Path,
    params_file: Path = params.OPTION,
) -> None:
    """Score every described model and draw what people look at."""
    p = params.section(params_file, "evaluate", Params)
    values = params.read(params_file)
    teachers = params.teachers(values, params_file)
    projections = {t: whitening.read(whitenings / f"{t}.h5") for t in teachers}
    frame = whitening.read(whitenings / "fused.h5")
    table: dict[str, Any] = {}
    about: dict[str, Any] = {}
    lines = ["set,model,difficulty,query,ap"]
    for name in values["evaluation"]:
        if not (evaluation / f"{name}.json").is_file():
            continue  # a collection of distractors asks nothing
        problem = Problem.read(evaluation, name, p.similarity)
        models = {
            m: problem.described(described / m / f"{name}.h5")
            for m in ("student", "untrained", *teachers)
        }
        white = {t: whitened(models[t], w) for t, w in projections.items()}
        found, about[name] = rank_set(problem, models, white, frame, values["ensemble"])
        table[name] = scored(found, problem.truth.protocol)
        lines += query_rows(problem, found)
        draw_set(results / "plots" / name, problem, models, white, table[name], p)
    store.write_text(results / "metrics.json", store.to_json(table))
    store.write_text(results / "queries.csv", "\n".join(lines) + "\n")
    store.write_text(results / "models.json", store.to_json(about))
    console.result(metrics.as_text(table))


def whitened(model: Described, by: Whitening) -> Pair:
    """A teacher's whitened descriptors of a set: queries and database, unit rows."""
    work = partial(_whiten, by=by)
    return video.lazily(work, model.query), video.lazily(work, model.database)


def rank_set(
    problem: Problem,
    models: dict[str, Described],
    white: dict[str, Pair],
    frame: Whitening,
    ensemble: list[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(ranks by model, what each model is) of one set."""
    found: dict[str, Any] = {}
    for name, m in models.items():
        found[name] = problem.ranks(m.query, m.database)
        if name in white:
            found[name] = {"raw": found[name], "whitened": problem.ranks(*white[name])}
    query, database = (
        video.lazily(_concatenated, *(white[t][side] for t in ensemble)) for side in (0, 1)
    )
    found["fused"] = problem.ranks(query, database)
    student = models["student"]
    if student.attributes.get("aligned"):
        embedded = video.lazily(partial(_whiten, by=frame), database)
        found["asymmetric"] = problem.ranks(student.query, embedded)
    about = {n: {"dim": m.dim, **m.attributes} for n, m in models.items()}
    return found, about


def _whiten(rows: np.ndarray, by: Whitening) -> np.ndarray:
    return whitening.apply(rows, by)


def _concatenated(*rows: np.ndarray) -> np.ndarray:
    return prototypes.concatenate(list(rows))


def scored(found: dict[str, Any], protocol: str) -> dict[str, Any]:
    """Ranks by model to scores by model, teachers raw and whitened."""
    return {
        model: {k: metrics.all_scores(v, protocol) for k, v in entry.items()}
        if isinstance(entry, dict)
        else metrics.all_scores(entry, protocol)
        for model, entry in found.items()
    }


def query_rows(problem: Problem, found: dict[str, Any]) -> list[str]:
    """CSV lines: set, model, difficulty, query, AP in percent."""
    return [
        f"{problem.name},{model},{difficulty},{query.image_id},{ap:.4f}"
        for model, ranks in metrics.flat(found).items()
        for difficulty, aps in metrics.per_query(ranks, problem.truth.protocol).items()
        for query, ap in zip(problem.truth.queries, aps, strict=True)
        if ap == ap  # a query without positives has none
    ]


def draw_set(
    folder: Path,
    problem: Problem,
    models: dict[str, Described],
    white: dict[str, Pair],
    scores: dict[str, Any],
    p: Params,
) -> None:
    """The pictures of one set: bars, distributions, a sheet of queries."""
    from .retrieval import plots

    folder.mkdir(parents=True, exist_ok=True)
    plots.bars(folder / "map.png", scores, problem.name)
    sims = {}
    for t, pair in white.items():
        raw, kind = problem.plotted((models[t].query, models[t].database))
        sims[t] = (raw, problem.plotted(pair)[0])
    plots.distributions(folder / "similarities.png", sims, kind)
    if p.sheet_queries:
        student = models["student"]
        first = problem.first_rows(student.query, student.database, 2 * p.sheet_results)
        plots.sheet(folder / "queries.png", sheet_rows(problem, first, p))


def sheet_rows(problem: Problem, first: np.ndarray, p: Params) -> list[list[tuple[Any, ...]]]:
    """(file, box, verdict) of each query and its first results, those that do not count left out.

    A video is shown by its middle frame.
    """
    step = max(len(problem.query) // max(p.sheet_queries, 1), 1)
    rows, kinds, pictures = [], problem.kinds(), problem.pictures
    for i in range(0, len(problem.query), step)[: p.sheet_queries]:
        shown = [r for r in first[i] if kinds[i][r] >= 0][: p.sheet_results]
        q = int(problem.query[i])
        box = None if pictures.start is not None else pictures.rectangle(q)
        row: list[tuple[Any, ...]] = [(pictures.thumbnail(q), box, None)]
        for r in shown:
            found = int(problem.database[r])
            row.append((pictures.thumbnail(found), None, kinds[i][r] == 1))
        rows.append(row)
    return rows


if __name__ == "__main__":
    console.main(app)
