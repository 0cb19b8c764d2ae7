"""Score described pictures: rankings, mAP, pictures to look at. No network is loaded.

    python -m stages.evaluate data/prepared/evaluation data/described models/whitening data/results

For each evaluation set with a ground truth, alone and among the distractors that it names: the
student, the untrained student, every teacher raw and whitened, the whitened ensemble concatenated
(`fused`); for a student trained on prototypes, its queries on the ensemble's fused embeddings
(`asymmetric`); for one trained to be compatible, the `earlier` student, and the new one's queries
on the earlier database (`compatible`). The database is read in blocks where it lies.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from .core import console, files, params, runtime, store
from .distill import prototypes, whitening
from .distill.whitening import Whitening
from .retrieval import metrics, score_table, scoring_rules
from .retrieval.benchmark import Described, Problem, mapped

app = console.app()
PLOTTED_ROWS = 4096  # of the database, in the plots of similarities
Pair = tuple[Any, Any]  # queries, and the database as it is read


class Params(params.Section):
    """Section `evaluate` of params.yaml."""

    sheet_queries: int = Field(ge=0)
    sheet_results: int = Field(ge=1, le=20)
    similarity: Literal["chamfer", "max", "mean", "mean_pooled", "max_pooled"]


@dataclass(frozen=True)
class Fitted:
    """A whitening and, for the protocol, what it was fitted on."""

    by: Whitening
    source: str

    @classmethod
    def read(cls, file: Path) -> "Fitted":
        """The whitening of a file that `whiten` or `fuse` wrote."""
        about = store.Stored(file, "whitening").attributes
        by = whitening.read(file)
        kind, views = about.get("method", "uncentred pca"), str(about.get("train", "unknown"))
        return cls(by, f"{kind} to {len(by.eigenvalue)} of training views {views[:8]}")

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """(b, d) rows to (b, out) float32 unit rows."""
        return whitening.apply(rows, self.by)


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
    runtime.keep_freed_memory()  # the same 280 MB of similarities come and go for every model
    values = params.read(params_file)
    teachers = params.teachers(values, params_file)
    names = ("student", "untrained", *teachers)
    fitted = {t: Fitted.read(whitenings / f"{t}.h5") for t in (*teachers, "fused")}
    open_file = cache(partial(store.Stored, kind="descriptors"))  # each is checked once
    table: dict[str, Any] = {}
    about: dict[str, Any] = {}
    rules: dict[str, dict[str, scoring_rules.Protocol]] = {}
    per_query: list[tuple[str, ...]] = [("set", "model", "difficulty", "query", "ap")]
    for problem in problems(evaluation, values["evaluation"], p.similarity):
        models = {m: problem.described(described / m, open_file) for m in names}
        if models["student"].attributes.get("compatible"):
            models[params.EARLIER] = problem.described(
                described / "student" / params.EARLIER, open_file
            )
        found, rules[problem.name] = rank_set(problem, models, fitted, values["ensemble"])
        about[problem.name] = {n: {"dim": m.dim, **m.attributes} for n, m in models.items()}
        table[problem.name] = scored(found, problem.truth.protocol)
        per_query += query_rows(problem, found)
        draw_set(results / "plots" / problem.name, problem, models, fitted, table[problem.name], p)
    (results / "plots").mkdir(parents=True, exist_ok=True)  # an output, also without any set
    files.write_text(results / "metrics.json", files.to_json(table))
    files.write_text(results / "queries.csv", files.to_csv(per_query))
    files.write_text(results / "models.json", files.to_json(about))
    files.write_text(results / "protocol.json", files.to_json(scoring_rules.as_map(rules)))
    console.result(score_table.as_text(table))
    for name, of_models in rules.items():
        console.result("\n".join(scoring_rules.lines(name, of_models)))


def problems(folder: Path, sets: dict[str, Any], similarity: str) -> Iterator[Problem]:
    """Every set that asks, and once more among its distractors where it names a set of them."""
    for name, entry in sets.items():
        if not (folder / f"{name}.json").is_file():
            continue  # a collection of distractors asks nothing
        problem = Problem.read(folder, name, similarity)
        yield problem
        if distractors := entry.get("distractors"):
            yield problem.among(folder, distractors)


def rank_set(
    problem: Problem, models: dict[str, Described], fitted: dict[str, Fitted], ensemble: list[str]
) -> tuple[dict[str, Any], dict[str, scoring_rules.Protocol]]:
    """(ranks by model, the rules of each score by its label) of one set."""
    found: dict[str, Any] = {}
    rules: dict[str, scoring_rules.Protocol] = {}
    white = {t: whitened(models[t], f) for t, f in fitted.items() if t in models}
    for name, m in models.items():
        found[name] = problem.ranks(m.query, m.database)
        label = name
        if name in white:
            found[name] = {"raw": found[name], "whitened": problem.ranks(*white[name])}
            label = f"{name} raw"
            rules[f"{name} whitened"] = problem.protocol(m, whitening=fitted[name].source)
        rules[label] = problem.protocol(m)
    query, database = together([white[t] for t in ensemble])
    found["fused"] = problem.ranks(query, database)
    each = [rules[f"{t} whitened"] for t in ensemble]
    whitenings = scoring_rules.merged(r.whitening for r in each)
    rules["fused"] = problem.protocol(models[ensemble[0]], **shared(each), whitening=whitenings)
    student, frame = models["student"], fitted["fused"]
    if student.attributes.get("aligned"):
        found["asymmetric"] = problem.ranks(student.query, mapped(frame.apply, database))
        both = shared([rules["student"], *each])
        rules["asymmetric"] = problem.protocol(student, **both, whitening=frame.source)
    if params.EARLIER in models:
        found["compatible"] = problem.ranks(student.query, models[params.EARLIER].database)
        both = shared([rules["student"], rules[params.EARLIER]])
        rules["compatible"] = problem.protocol(student, **both)
    return found, rules


def shared(rules: list[scoring_rules.Protocol]) -> dict[str, str]:
    """How the descriptors of one score were made, where several models made them."""
    fields = ("image_px", "scales", "dtype")
    return {k: scoring_rules.merged(getattr(r, k) for r in rules) for k in fields}


def whitened(model: Described, by: Fitted) -> Pair:
    """A teacher's whitened descriptors of a set: queries, and the database as it is read."""
    return mapped(by.apply, model.query), mapped(by.apply, model.database)


def together(teachers: list[Pair]) -> Pair:
    """The whitened descriptors of several teachers, concatenated."""
    queries, databases = zip(*teachers, strict=True)
    return mapped(_concatenated, *queries), mapped(_concatenated, *databases)


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


def query_rows(problem: Problem, found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of set, model, difficulty, query, AP in percent."""
    return [
        (problem.name, model, difficulty, query.image_id, f"{ap:.4f}")
        for model, ranks in score_table.flat(found).items()
        for difficulty, aps in metrics.per_query(ranks, problem.truth.protocol).items()
        for query, ap in zip(problem.truth.queries, aps, strict=True)
        if ap == ap  # a query without positives has none
    ]


def draw_set(
    folder: Path,
    problem: Problem,
    models: dict[str, Described],
    fitted: dict[str, Fitted],
    scores: dict[str, Any],
    p: Params,
) -> None:
    """The pictures of one set: bars, distributions, a sheet of queries."""
    from .retrieval import plots

    folder.mkdir(parents=True, exist_ok=True)
    plots.bars(folder / "map.png", scores, problem.name)
    rows, verdicts = problem.sample(PLOTTED_ROWS)
    sims = {}
    for t, by in fitted.items():
        if t in models:
            query, database = whitened(models[t], by)
            raw = problem.similarities(models[t].query, models[t].database, rows)
            sims[t] = (raw, problem.similarities(query, database, rows))
    plots.distributions(folder / "similarities.png", sims, verdicts)
    if p.sheet_queries:
        student = models["student"]
        first = problem.first_rows(student.query, student.database, 2 * p.sheet_results)
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
            (problem.pictures.thumbnail(q), problem.pictures.rectangle(q), None)
        ]
        for r in shown:
            row.append((problem.file(int(r)), None, bool(r in good)))
        rows.append(row)
    return rows


if __name__ == "__main__":
    console.main(app)
