"""What the report shows of a run's files: stages and times, teachers in the fusion, queries."""

import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...core import console, files, machine, store
from ...core.errors import UserError
from ...distill.targets import Targets, read_whitened
from ...images.sets import TrainSet
from ...retrieval.benchmark import Benchmark, Described
from .. import pages
from . import winners
from .runs import Run

PREPARED = Path("data/prepared")
BATCHES = 64  # batches of the plan that winners are counted on, evenly spaced
BEST, WORST, RESULTS = 3, 5, 8  # queries shown, and results of each


def flow(run: Run) -> list[dict[str, Any]]:
    """The stages in order: what each made, and its seconds where they were recorded here."""
    p, c = run.params, run.config
    teachers, sets = list(p["teachers"]), list(run.metrics)
    views = _images_and_views()
    loss = c.get("loss")
    steps = f"{', '.join(loss) if isinstance(loss, dict) else loss}, {c.get('steps')} steps"
    boxes = [
        ("prepare", views or f"dataset {p['prepare']['dataset']}", ["prepare"]),
        ("extract", f"{len(teachers)} teachers describe every view once",
         [f"extract@{t}" for t in teachers]),
        ("whiten", _whitenings(run),
         [f"whiten@{t}" for t in teachers]),
        ("fuse", f"{p['fuse']['strategy']} of {len(p['ensemble'])}, {p['fuse']['epochs']} epochs "
         f"of batches of {p['fuse']['batch']} pairs", ["fuse"]),
        ("train", steps, ["train"]),
        ("describe", f"{', '.join(sets)} by {len(teachers) + 2} models",
         [*(f"describe@{t}" for t in teachers), "describe_student@student",
          "describe_student@untrained"]),
        ("evaluate", f"{', '.join(sets)}: rank and score", ["evaluate"]),
    ]  # fmt: skip
    times = recorded_times()
    return [
        {"name": name, "what": what, "seconds": _total([times.get(e) for e in entries])}
        for name, what, entries in boxes
    ]


def recorded_times() -> dict[str, float]:
    """Seconds of each stage of dvc.yaml the last time it ran (and was not cached) here."""
    folder = machine.scratch() / console.TIMES
    out = {}
    for file in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            out[file.stem] = float(files.read_json(file)["seconds"])
        except (UserError, KeyError, TypeError, ValueError):
            continue  # a damaged file counts as missing
    return out


def fusion(run: Run) -> dict[str, Any]:
    """Which teacher is the max and which the min; `missing`: why this is not known, or empty."""
    ensemble = list(run.params["ensemble"])
    try:
        views = TrainSet.read(PREPARED / "train.h5")
        plan = Targets.read(Path("data/targets"), views)
        files = [read_whitened(Path(f"data/whitened/{t}.h5"), views) for t in ensemble]
    except UserError as error:
        return {"missing": str(error).splitlines()[0]}
    rows = [f["descriptor"] for f in files]
    total = plan.steps * len(plan.shards)
    chosen = np.unique(np.linspace(0, total - 1, min(BATCHES, total)).astype(int))
    won = winners.count(_similarities(rows, *plan.rows(int(s))) for s in chosen)
    return {
        "missing": "", "teachers": ensemble, "strategy": run.params["fuse"]["strategy"],
        "batches": len(chosen), "of": total, "won": won,
    }  # fmt: skip


def _similarities(rows: list[np.ndarray], anchor: np.ndarray, positive: np.ndarray) -> np.ndarray:
    return np.stack([r[anchor].astype(np.float32) @ r[positive].astype(np.float32).T for r in rows])


def queries(run: Run, data: str, difficulty: str) -> dict[str, Any]:
    """The student's best and worst queries with images; `missing`: why there are none, or empty."""
    name, _, distractors = data.partition("+")
    try:
        similarity = run.params["evaluate"]["similarity"]  # of videos
        benchmark = Benchmark.read(PREPARED / "evaluation", name, similarity)
        if distractors:
            benchmark = benchmark.among(PREPARED / "evaluation", distractors)
        open_file = partial(store.Stored, kind="descriptors")
        described = benchmark.described(Path("data/described/student"), open_file)
    except UserError as error:
        return {"missing": str(error).splitlines()[0]}
    aps = run.queries.get((data, "student", difficulty), {})
    ids = [q.image_id for q in benchmark.truth.queries]
    scored = [i for i, image_id in enumerate(ids) if image_id in aps]
    order = sorted(scored, key=lambda i: (aps[ids[i]], i))
    worst = order[: min(WORST, (len(order) + 1) // 2)]
    best = order[::-1][: min(BEST, len(order) - len(worst))]
    sheet = _sheet(run, data, difficulty, benchmark, described)
    return {
        "missing": "", "best": [sheet(i) for i in best], "worst": [sheet(i) for i in worst],
        "count": len(scored), "histogram": _histogram([aps[ids[i]] for i in scored]),
    }  # fmt: skip


def _sheet(
    run: Run, data: str, difficulty: str, benchmark: Benchmark, described: Described
) -> Callable[[int], dict[str, Any]]:
    """A function: query number -> its AP by model, its image and those of its first results."""
    positives, junk = benchmark.truth.positives, benchmark.truth.junk
    junk_most = max(len(rows) for rows in junk)
    first = benchmark.first_rows(described.query, described.database, RESULTS + junk_most)

    def of(number: int) -> dict[str, Any]:
        query = benchmark.truth.queries[number]
        own = int(benchmark.query[number])
        good = {int(r) for r in positives[number]}
        shown = [int(r) for r in first[number] if r not in junk[number]][:RESULTS]
        scores = {
            label: run.queries[key][query.image_id]
            for label in ("student", "untrained", "ensemble")
            if query.image_id in run.queries.get(key := (data, label, difficulty), {})
        }
        box = benchmark.images.rectangle(own)
        return {
            "name": query.image_id, "scores": scores, "positives": len(good),
            "query": _shot(benchmark.images.thumbnail(own), "reference", box),
            "results": [
                _shot(benchmark.file(r), "good" if r in good else "bad") for r in shown
            ],
        }  # fmt: skip

    return of


def _shot(file: Path, kind: str, box: tuple[float, ...] | None = None) -> dict[str, Any]:
    name = f"{file.parent.name}/{file.name}"
    return {"uri": pages.image(file, box), "name": name, "note": "", "kind": kind}


def _histogram(aps: list[float]) -> list[dict[str, Any]]:
    """Queries by tenths of AP: how many, and the height of a bar in percent of the highest."""
    counts, _ = np.histogram(aps, bins=10, range=(0, 100))
    most = max(int(counts.max()), 1)
    return [
        {"from": 10 * i, "count": int(c), "height": round(100 * int(c) / most)}
        for i, c in enumerate(counts)
    ]


def _images_and_views() -> str:
    try:
        views = TrainSet.read(PREPARED / "train.h5")
    except UserError:
        return ""
    groups = len(np.unique(views.group[views.group >= 0]))
    noun = "videos" if views.videos else "images"
    return f"{len(views.group)} {noun}, {groups} groups, {len(views.view_image)} views"


def whitening(teachers: Iterable[str]) -> list[dict[str, Any]]:
    """By teacher whose whitening was chosen here: what was taken, and the best of each method."""
    rows = []
    for teacher in teachers:
        try:
            about = store.Stored(Path(f"models/whitening/{teacher}.h5"), "whitening").attributes
        except UserError:
            continue
        if "tried" not in about:
            continue
        best: dict[str, list[Any]] = {}
        for candidate in json.loads(about["tried"]):
            if candidate[4] > best.get(candidate[0], [-1.0])[-1]:
                best[candidate[0]] = candidate
        rows.append({"teacher": teacher, "by": about["chosen_by"], "taken": about["method"],
                     "count": len(json.loads(about["tried"])), "best": best})  # fmt: skip
    return rows


def _whitenings(run: Run) -> str:
    """Methods and dimensions of the teachers' whitening, as far as the files say."""
    p, models = run.params["whiten"], next(iter(run.models.values()))
    dims = {int(models[t].get("whitened_dim", 0)) for t in run.params["teachers"]} - {0}
    method = "chosen for each teacher" if p["method"] == "auto" else p["method"]
    if not dims:
        return method
    return f"{method}, {' to '.join(map(str, sorted({min(dims), max(dims)})))} dimensions"


def _total(seconds: list[float | None]) -> float | None:
    known = [s for s in seconds if s is not None]
    return sum(known) if len(known) == len(seconds) else None
