"""Score described images: rankings, mAP, images to look at. No network is loaded.

    python -m stages.evaluate data/prepared/evaluation data/described models/whitening data/results

For each evaluation set with a ground truth, alone and among the distractors that it names: the
student, the untrained student, every teacher raw and whitened, the whitened teachers concatenated
(`ensemble`); for a student trained on prototypes, the ensemble in the student's frame (`fused`) and
the student's queries on that database (`asymmetric`); for one trained to be backward-compatible,
the old model (`old_model`) and the new one's queries on the old one's database (`new_on_old`);
where a simpler student than the trained one is shipped, the trained one (`trained`).
The database is read in blocks where it lies.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from .core import console, files, params, runtime, store
from .core.errors import UserError
from .distill import frames, prototypes, whitening
from .distill.frames import Frame
from .distill.whitening import Whitening
from .retrieval import score_table, scoring_rules
from .retrieval.benchmark import Benchmark, Described, mapped, unit
from .retrieval.protocols import Protocol

app = console.app()
PLOTTED_ROWS = 4096  # of the database, in the plots of similarities
INNER = {params.OLD_MODEL: "backward_compatible", params.TRAINED: "trained_apart"}
Pair = tuple[Any, Any]  # queries, and the database as it is read


class Params(params.Section):
    """Section `evaluate` of params.yaml."""

    sheet_queries: int = Field(ge=0)
    sheet_results: int = Field(ge=1, le=20)
    similarity: Literal["chamfer", "max", "mean", "mean_pooled", "max_pooled"]


@dataclass(frozen=True)
class Fitted:
    """A whitening and, for the scoring rules, what it was fitted on."""

    by: Whitening
    source: str

    @classmethod
    def read(cls, file: Path) -> "Fitted":
        """The whitening of a file that `whiten` wrote, of the teacher it is named by."""
        about = store.Stored(file, "whitening").of_teacher(file.stem).attributes
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
    given = params.read(params_file)
    p, teachers = given.section("evaluate", Params), list(given.kinds)
    runtime.keep_freed_memory()  # the same 280 MB of similarities come and go for every model
    names = ("student", "untrained", *teachers)
    fitted = {t: Fitted.read(whitenings / f"{t}.h5") for t in teachers}
    open_file = cache(partial(store.Stored, kind="descriptors"))  # each is checked once
    table: dict[str, Any] = {}
    about: dict[str, Any] = {}
    rules: dict[str, dict[str, scoring_rules.ScoringRules]] = {}
    per_query: list[tuple[str, ...]] = [("set", "model", "difficulty", "query", "ap")]
    for benchmark in benchmarks(evaluation, given.evaluation, p.similarity):
        models = {m: benchmark.described(described / m, open_file) for m in names}
        refuse_others(models, teachers, described)
        for kind, told in INNER.items():
            if models["student"].attributes.get(told):
                models[kind] = benchmark.described(described / "student" / kind, open_file)
        name = str(models["student"].attributes.get("frame", frames.WHITENED))
        frame = frames.read(whitenings, name, given.ensemble)
        ranks, rules[benchmark.name] = rank_set(benchmark, models, fitted, given.ensemble, frame)
        about[benchmark.name] = {n: {"dim": m.dim, **m.attributes} for n, m in models.items()}
        for t in given.kinds:
            about[benchmark.name][t]["whitened_dim"] = len(fitted[t].by.eigenvalue)
        table[benchmark.name] = scored(ranks, benchmark.truth.protocol)
        per_query += query_rows(benchmark, ranks)
        draw_set(
            results / "plots" / benchmark.name, benchmark, models, fitted, table[benchmark.name], p
        )
    (results / "plots").mkdir(parents=True, exist_ok=True)  # an output, also without any set
    files.write_text(results / "metrics.json", files.to_json(table))
    files.write_text(results / "queries.csv", files.to_csv(per_query))
    files.write_text(results / "models.json", files.to_json(about))
    files.write_text(results / scoring_rules.FILE, files.to_json(scoring_rules.as_map(rules)))
    console.result(score_table.headline(table))
    for name, of_models in rules.items():
        console.result("\n".join(scoring_rules.lines(name, of_models)))


def refuse_others(models: dict[str, Described], teachers: list[str], folder: Path) -> None:
    """Raise UserError where descriptors under one model's name say that they are another's."""
    for name, m in models.items():
        own = str(m.attributes.get("model", name))
        if own != name and (name in teachers or own in teachers):
            raise UserError(f"{folder / name}: described by {own}, not {name}; describe again")


def benchmarks(
    folder: Path, sets: dict[str, params.EvaluationEntry], similarity: str
) -> Iterator[Benchmark]:
    """Every set with a ground truth, alone and among the distractors that it names."""
    for name, entry in sets.items():
        if not (folder / f"{name}.json").is_file():
            continue  # a set of distractors has no queries
        benchmark = Benchmark.read(folder, name, similarity)
        yield benchmark
        if entry.distractors is not None:
            yield benchmark.among(folder, entry.distractors)


def rank_set(
    benchmark: Benchmark,
    models: dict[str, Described],
    fitted: dict[str, Fitted],
    ensemble: list[str],
    frame: Frame,
) -> tuple[dict[str, Any], dict[str, scoring_rules.ScoringRules]]:
    """(ranks by model, the rules of each score by its label) of one set."""
    ranks: dict[str, Any] = {}
    rules: dict[str, scoring_rules.ScoringRules] = {}
    white = {t: whitened(models[t], f) for t, f in fitted.items() if t in models}
    own = {name: unit(m) for name, m in models.items()}
    for name, m in models.items():
        ranks[name] = benchmark.ranks(*own[name])
        label = name
        if name in white:
            ranks[name] = {"raw": ranks[name], "whitened": benchmark.ranks(*white[name])}
            label = f"{name} raw"
            rules[f"{name} whitened"] = benchmark.rules(m, whitening=fitted[name].source)
        rules[label] = benchmark.rules(m)
    query, database = together([white[t] for t in ensemble])
    ranks["ensemble"] = benchmark.ranks(query, database)
    each = [rules[f"{t} whitened"] for t in ensemble]
    whitenings = scoring_rules.merged(r.whitening for r in each)
    rules["ensemble"] = benchmark.rules(models[ensemble[0]], **shared(each), whitening=whitenings)
    student = models["student"]
    if student.attributes.get("aligned"):
        fused = in_frame([models[t] for t in ensemble], frame)
        ranks["fused"] = benchmark.ranks(*fused)
        ranks["asymmetric"] = benchmark.ranks(own["student"][0], fused[1])
        made, both = shared(each), shared([rules["student"], *each])
        rules["fused"] = benchmark.rules(models[ensemble[0]], **made, whitening=frame.source)
        rules["asymmetric"] = benchmark.rules(student, **both, whitening=frame.source)
    if params.OLD_MODEL in models:
        ranks["new_on_old"] = benchmark.ranks(own["student"][0], own[params.OLD_MODEL][1])
        both = shared([rules["student"], rules[params.OLD_MODEL]])
        rules["new_on_old"] = benchmark.rules(student, **both)
    return ranks, rules


def shared(rules: list[scoring_rules.ScoringRules]) -> dict[str, str]:
    """How the descriptors of one score were made, where several models made them."""
    fields = ("image_px", "scales", "dtype")
    return {k: scoring_rules.merged(getattr(r, k) for r in rules) for k in fields}


def whitened(model: Described, by: Fitted) -> Pair:
    """A teacher's whitened descriptors of a set: queries, and the database as it is read."""
    return mapped(by.apply, model.query), mapped(by.apply, model.database)


def in_frame(teachers: list[Described], frame: Frame) -> Pair:
    """The fused embeddings of a set, of the teachers' own descriptors."""
    query = mapped(frame.apply, *(m.query for m in teachers))
    return query, mapped(frame.apply, *(m.database for m in teachers))


def together(teachers: list[Pair]) -> Pair:
    """The whitened descriptors of several teachers, concatenated."""
    queries, databases = zip(*teachers, strict=True)
    return mapped(_concatenated, *queries), mapped(_concatenated, *databases)


def _concatenated(*rows: np.ndarray) -> np.ndarray:
    return prototypes.concatenate(list(rows))


def scored(ranks: dict[str, Any], protocol: Protocol) -> dict[str, Any]:
    """Ranks by model to scores by model, teachers raw and whitened."""
    return {
        model: {k: protocol.all_scores(v) for k, v in entry.items()}
        if isinstance(entry, dict)
        else protocol.all_scores(entry)
        for model, entry in ranks.items()
    }


def query_rows(benchmark: Benchmark, ranks: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of set, model, difficulty, query, AP in percent."""
    return [
        (benchmark.name, model, difficulty, query.image_id, f"{ap:.4f}")
        for model, of_model in score_table.flat(ranks).items()
        for difficulty, aps in benchmark.truth.protocol.per_query(of_model).items()
        for query, ap in zip(benchmark.truth.queries, aps, strict=True)
        if ap == ap  # a query without positives has none
    ]


def draw_set(
    folder: Path,
    benchmark: Benchmark,
    models: dict[str, Described],
    fitted: dict[str, Fitted],
    scores: dict[str, Any],
    p: Params,
) -> None:
    """The images of one set: bars, distributions, a sheet of queries."""
    from .retrieval import plots

    folder.mkdir(parents=True, exist_ok=True)
    plots.bars(folder / "map.png", scores, benchmark.name)
    rows, verdicts = benchmark.sample(PLOTTED_ROWS)
    sims = {}
    for t, by in fitted.items():
        if t in models:
            query, database = whitened(models[t], by)
            raw = benchmark.similarities(*unit(models[t]), rows)
            sims[t] = (raw, benchmark.similarities(query, database, rows))
    plots.distributions(folder / "similarities.png", sims, verdicts)
    if p.sheet_queries:
        first = benchmark.first_rows(*unit(models["student"]), 2 * p.sheet_results)
        plots.sheet(folder / "queries.png", sheet_rows(benchmark, first, p))


def sheet_rows(benchmark: Benchmark, first: np.ndarray, p: Params) -> list[list[tuple[Any, ...]]]:
    """(file, box, verdict) of each query and its first results, junk left out."""
    positives, junk = benchmark.truth.positives, benchmark.truth.junk
    step = max(len(benchmark.query) // max(p.sheet_queries, 1), 1)
    rows = []
    for i in range(0, len(benchmark.query), step)[: p.sheet_queries]:
        shown = [r for r in first[i] if r not in junk[i]][: p.sheet_results]
        q = int(benchmark.query[i])
        row: list[tuple[Any, ...]] = [
            (benchmark.images.thumbnail(q), benchmark.images.rectangle(q), None)
        ]
        for r in shown:
            row.append((benchmark.file(int(r)), None, bool(r in positives[i])))
        rows.append(row)
    return rows


if __name__ == "__main__":
    console.main(app)
