"""Score described pictures: rankings, mAP, pictures to look at. No network is loaded.

    python -m stages.evaluate data/prepared/evaluation data/described models/whitening data/results

For each evaluation set with a ground truth: the student, the untrained student, every teacher raw
and whitened, the whitened ensemble concatenated (`fused`), and, for a student trained on
prototypes, its queries on the ensemble's fused embeddings (`asymmetric`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from .core import console, params, store
from .core.errors import UserError
from .core.records import EvaluationSet, GroundTruth
from .distill import prototypes, whitening
from .distill.whitening import Whitening
from .retrieval import metrics, rank

app = console.app()


class Params(params.Section):
    """Section `evaluate` of params.yaml."""

    sheet_queries: int = Field(ge=0)
    sheet_results: int = Field(ge=1, le=20)


@dataclass(frozen=True)
class Described:
    """One model's descriptors of a set, split into queries (in the order asked) and database."""

    query: np.ndarray
    database: np.ndarray
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """A set's question: which rows ask, which are searched, what is right."""

    name: str
    pictures: EvaluationSet
    query: np.ndarray  # rows of the set, by the order of the ground truth
    database: np.ndarray  # rows of the set
    truth: GroundTruth

    @classmethod
    def read(cls, folder: Path, name: str) -> "Problem":
        """The set `name` and its ground truth."""
        pictures = EvaluationSet.read(folder / f"{name}.h5")
        database = np.flatnonzero(pictures.role != "query")
        where = folder / f"{name}.json"
        truth = GroundTruth.parse(store.read_json(where), pictures.image_id[database], str(where))
        row = {str(image_id): i for i, image_id in enumerate(pictures.image_id)}
        if missing := [q.image_id for q in truth.queries if q.image_id not in row]:
            raise UserError(f"{where}: query {missing[0]} is not in {name}.h5; run prepare again")
        query = np.array([row[q.image_id] for q in truth.queries], dtype=np.int64)
        return cls(name, pictures, query, database, truth)

    def described(self, file: Path) -> Described:
        """Read `file` and split its rows; refuses descriptors of other pictures."""
        stored = store.Stored(file, "descriptors")
        if stored.attributes.get("set") != self.pictures.digest:
            raise UserError(
                f"{file}: describes other pictures than set {self.name}; describe again"
            )
        rows = stored["descriptor"]
        return Described(rows[self.query], rows[self.database], stored.attributes)

    def ranks(self, query: np.ndarray, database: np.ndarray) -> list[dict[str, np.ndarray]]:
        """Ranks of each query's answers by kind, of unit rows (q, d) against (n, d)."""
        return rank.ranks(query, database, [q.answers for q in self.truth.queries])


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
        problem = Problem.read(evaluation, name)
        models = {
            m: problem.described(described / m / f"{name}.h5")
            for m in ("student", "untrained", *teachers)
        }
        white = {t: whitened(models[t], w) for t, w in projections.items()}
        found, about[name] = rank_set(problem, models, white, frame, values["ensemble"])
        table[name] = scored(found, problem.truth.protocol)
        lines += query_rows(problem, found)
        draw_set(results / "plots" / name, problem, models, white, table[name], p)
    (results / "plots").mkdir(parents=True, exist_ok=True)  # an output, also without any set
    store.write_text(results / "metrics.json", store.to_json(table))
    store.write_text(results / "queries.csv", "\n".join(lines) + "\n")
    store.write_text(results / "models.json", store.to_json(about))
    console.result(metrics.as_text(table))


Pair = tuple[np.ndarray, np.ndarray]  # queries, database


def whitened(model: Described, by: Whitening) -> Pair:
    """A teacher's whitened descriptors of a set: queries and database, unit rows."""
    return whitening.apply(model.query, by), whitening.apply(model.database, by)


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
        prototypes.concatenate([white[t][side] for t in ensemble]) for side in (0, 1)
    )
    found["fused"] = problem.ranks(query, database)
    student = models["student"]
    if student.attributes.get("aligned"):
        embedded = whitening.apply(database, frame)
        found["asymmetric"] = problem.ranks(student.query, embedded)
    about = {n: {"dim": m.query.shape[1], **m.attributes} for n, m in models.items()}
    return found, about


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
    positive = _positive_mask(problem)
    sims = {}
    for t, (query, database) in white.items():
        q, d = models[t].query.astype(np.float32), models[t].database.astype(np.float32)
        sims[t] = (q @ d.T, query @ database.T)
    plots.distributions(folder / "similarities.png", sims, positive)
    if p.sheet_queries:
        student = models["student"]
        first = rank.first_rows(student.query, student.database, 2 * p.sheet_results)
        plots.sheet(folder / "queries.png", sheet_rows(problem, first, p))


def sheet_rows(problem: Problem, first: np.ndarray, p: Params) -> list[list[tuple[Any, ...]]]:
    """(file, box, verdict) of each query and its first results, junk left out."""
    step = max(len(problem.query) // max(p.sheet_queries, 1), 1)
    rows = []
    for i in range(0, len(problem.query), step)[: p.sheet_queries]:
        answers = problem.truth.queries[i].answers
        good = np.concatenate([v for k, v in answers.items() if k not in ("junk", "negative")])
        shown = [r for r in first[i] if r not in set(answers.get("junk", ()))][: p.sheet_results]
        q = int(problem.query[i])
        row: list[tuple[Any, ...]] = [
            (problem.pictures.file(q), problem.pictures.rectangle(q), None)
        ]
        for r in shown:
            row.append((problem.pictures.file(int(problem.database[r])), None, bool(r in good)))
        rows.append(row)
    return rows


def _positive_mask(problem: Problem) -> np.ndarray:
    """(q, n) int8: 1 positive, 0 negative, -1 junk."""
    mask = np.zeros((len(problem.query), len(problem.database)), dtype=np.int8)
    for row, q in zip(mask, problem.truth.queries, strict=True):
        for kind, rows in q.answers.items():
            row[rows] = -1 if kind == "junk" else 1 if kind != "negative" else 0
    return mask


if __name__ == "__main__":
    console.main(app)
