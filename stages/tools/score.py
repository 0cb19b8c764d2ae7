"""Score descriptors of any origin by any of our protocols.

    whiten-mtd score QUERY.h5 DATABASE.h5 GROUND_TRUTH.json

Both files are descriptor files (`descriptor`, `image_id`); queries are looked up in QUERY.h5,
answers in DATABASE.h5. A new student's queries on an old one's database are scored the same way.
Files with a dataset `start` describe videos by their frames.
"""

from pathlib import Path
from typing import Any

import numpy as np
import typer

from ..core import console, store
from ..core.errors import UserError
from ..core.plugins import nearest
from ..core.records import GroundTruth, checked_start
from ..retrieval import metrics, rank, video

app = console.app()


@app.command()
def main(
    query: Path,
    database: Path,
    ground_truth: Path,
    per_query: Path = typer.Option(None, help="Write each query's AP to this CSV."),
    similarity: str = typer.Option("chamfer", help=f"Of videos: {', '.join(video.KINDS)}."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Rank DATABASE for every query of GROUND_TRUTH and print the scores."""
    if similarity not in video.KINDS:
        raise UserError(
            f"no similarity {similarity!r}{nearest(similarity, video.KINDS)}: choose from "
            f"{', '.join(video.KINDS)}"
        )
    asked, searched = store.Stored(query, "descriptors"), store.Stored(database, "descriptors")
    values = store.read_json(ground_truth)
    rows = database_rows(searched, values, str(ground_truth))
    ids = searched["image_id"][rows]
    truth = GroundTruth.parse(values, ids, str(ground_truth))
    row = {str(image_id): i for i, image_id in enumerate(asked["image_id"])}
    if missing := [q.image_id for q in truth.queries if q.image_id not in row]:
        raise UserError(f"{query}: {len(missing)} queries are not in it, the first: {missing[0]}")
    q, d = asked["descriptor"], searched["descriptor"]
    if q.shape[1] != d.shape[1]:
        raise UserError(
            f"{query} has {q.shape[1]} dimensions and {database} {d.shape[1]}: of different models"
        )
    asking, answers = [row[a.image_id] for a in truth.queries], [a.answers for a in truth.queries]
    if truth.protocol == "svd" or "start" in asked or "start" in searched:
        queries = clips(asked).take(np.array(asking, dtype=np.int64))
        sims = video.similarities(queries, clips(searched), similarity, rows)
        ranks = video.ranks(
            video.masked(sims, answers) if truth.protocol == "svd" else sims, answers
        )
    else:
        ranks = rank.ranks(q[asking], d[rows], answers)
    found = metrics.all_scores(ranks, truth.protocol)
    aps = metrics.per_query(ranks, truth.protocol)
    if per_query is not None:
        write_csv(per_query, truth, aps)
    console.result(store.to_json(found).rstrip() if json else as_text(found, aps, len(rows)))


def clips(stored: store.Stored) -> video.Clips:
    """The videos of a descriptor file; pictures are videos of one frame."""
    rows, ids = stored["descriptor"], stored["image_id"]
    start: Any = stored["start"] if "start" in stored else np.arange(len(ids) + 1)
    start = checked_start(start, len(ids), str(stored.path))
    if start[-1] != len(rows):
        raise UserError(f"{stored.path}: start counts {start[-1]} frames, there are {len(rows)}")
    return video.Clips((rows,), start)


def database_rows(searched: store.Stored, values: object, where: str) -> np.ndarray:
    """Rows of the database file that are searched: all but the ground truth's queries."""
    queries = values.get("queries") if isinstance(values, dict) else None
    if not isinstance(queries, list):
        raise UserError(f"{where}: no list of queries")
    answers = {str(i) for q in queries for v in q.values() if isinstance(v, list) for i in v}
    asking = {str(q.get("image_id")) for q in queries} - answers
    keep = ~np.isin(searched["image_id"], sorted(asking)) if asking else slice(None)
    return np.arange(len(searched["image_id"]))[keep]


def write_csv(path: Path, truth: GroundTruth, aps: dict[str, list[float]]) -> None:
    """difficulty, query, AP in percent; queries without positives are left out."""
    lines = ["difficulty,query,ap"]
    for difficulty, values in aps.items():
        pairs = zip(truth.queries, values, strict=True)
        lines += [f"{difficulty},{q.image_id},{v:.4f}" for q, v in pairs if v == v]
    store.write_text(path, "\n".join(lines) + "\n")


def as_text(found: dict[str, dict[str, float]], aps: dict[str, list[float]], rows: int) -> str:
    """A table for people, with the 95 % interval of mAP over the queries."""
    names = list(next(iter(found.values()), {}))
    lines = [f"{rows} searched", f"{'':10}" + "".join(f"{n:>11}" for n in names)]
    for difficulty, values in found.items():
        counted = np.array([v for v in aps[difficulty] if v == v])
        low, high = metrics.bootstrap(counted)
        cells = "".join(f"{values[n]:11.2f}" for n in names)
        lines.append(
            f"{difficulty:10}{cells}   mAP 95 % {low:.1f} to {high:.1f} over {len(counted)} queries"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    console.main(app)
