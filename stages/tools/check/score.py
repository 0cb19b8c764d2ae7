"""Score descriptors of any origin by any of our protocols.

    whiten-mtd score QUERY.h5 DATABASE.h5 GROUND_TRUTH

Both files are descriptor files (`descriptor`, `image_id`); queries are looked up in QUERY.h5, what
is right for them in DATABASE.h5. A new student's queries on an old one's database are scored the
same way. GROUND_TRUTH is a .json that `prepare` wrote, or an official `gnd_<set>.pkl` of the
revisited sets, in which nothing is executed. Files with a dataset `start` describe videos by their
frames.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import typer

from ...core import console, contents, files, store
from ...core.errors import UserError
from ...core.plugins import nearest
from ...datasets import revisitop
from ...images.sets import checked_start
from ...retrieval import metrics, rank, scoring_rules, video
from ...retrieval.ground_truth import GroundTruth
from ...retrieval.lazy_rows import Joined, Picked, Unit

app = console.app()
KIND = "descriptors"
RULES, OLD_RULES = "scoring_rules", "protocol"  # key of the JSON; OLD_RULES: 0.1
UNSAID = "as described"  # of files that do not say how queries were cut


@app.command()
def main(
    query: Path,
    database: Path,
    ground_truth: Path,
    distractors: Path = typer.Option(None, help="Descriptors to search behind DATABASE."),
    per_query: Path = typer.Option(None, help="Write each query's AP to this CSV."),
    against: Path = typer.Option(None, help="What --json printed for an old run, to compare with."),
    similarity: str = typer.Option("chamfer", help=f"Of videos: {', '.join(video.KINDS)}."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Rank DATABASE for every query of GROUND_TRUTH and print the scores."""
    if similarity not in video.KINDS:
        raise UserError(
            f"no similarity {similarity!r}{nearest(similarity, video.KINDS)}: choose from "
            f"{', '.join(video.KINDS)}"
        )
    queries, searched = store.Stored(query, KIND), store.Stored(database, KIND)
    values = read_truth(ground_truth)
    kept = database_rows(searched, values, str(ground_truth))
    ids = searched.ids()[kept]
    truth = GroundTruth.parse(values, ids, str(ground_truth))
    files_searched = [searched]
    if distractors is not None:
        files_searched.append(store.Stored(distractors, KIND))
    refuse_other_width(queries, files_searched)
    rows = query_rows(queries, truth)
    # what is masked is compared as videos are, an image as a video of one frame
    videos = truth.protocol.masked or any("start" in f for f in (queries, *files_searched))
    if videos:
        if distractors is not None:
            raise UserError(f"{distractors}: distractors of videos are a part of DATABASE")
        ranks = ranks_of_videos(queries, searched, rows, kept, truth, similarity)
        count = len(kept)
    else:
        parts = [Unit(f["descriptor"]) for f in files_searched]
        joined = Joined([Picked(parts[0], kept), *parts[1:]])
        asked = contents.unit(queries["descriptor"][rows])
        ranks, count = rank.ranks(asked, joined, truth.lists), len(joined)
    scores = truth.protocol.all_scores(ranks)
    if not scores:
        raise UserError(f"{ground_truth}: no query has a positive, so there is nothing to score")
    aps = truth.protocol.per_query(ranks)
    if per_query is not None:
        write_csv(per_query, truth, aps)
    named = scoring_rules.rules_of(truth, similarity if videos else None)
    rules = rules_of(named, truth, ids, [queries, *files_searched], count)
    result = {**scores, RULES: asdict(rules)}
    console.result(files.to_json(result).rstrip() if json else as_text(scores, aps, rules))
    if against is not None:
        compare(against, scores, rules)


def read_truth(path: Path) -> Any:
    """A ground truth of ours (JSON) or an official one (a pickle), in our form."""
    if path.suffix != ".pkl":
        return files.read_json(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    known = revisitop.ground_truth(path)
    return {"protocol": "revisitop", "queries": revisitop.queries_by_id(known)}


def refuse_other_width(queries: store.Stored, searched: list[store.Stored]) -> None:
    """Descriptors of different dimensions cannot be compared. Raises UserError."""
    width = queries["descriptor"].shape[1]
    for file in searched:
        if width != (other := file["descriptor"].shape[1]):
            raise UserError(
                f"{queries.path} has {width} dimensions and {file.path} {other}: of different "
                "models; describe both by one model"
            )


def query_rows(queries: store.Stored, truth: GroundTruth) -> np.ndarray:
    """(q,) rows of the queries of `truth` in their file. Raises UserError for missing ones."""
    row = {str(image_id): i for i, image_id in enumerate(queries.ids())}
    if missing := [q.image_id for q in truth.queries if q.image_id not in row]:
        raise UserError(
            f"{queries.path}: {len(missing)} queries are not in it, the first: {missing[0]}"
        )
    return np.array([row[q.image_id] for q in truth.queries], dtype=np.int64)


def rules_of(
    rules: str, truth: GroundTruth, ids: np.ndarray, files: list[store.Stored], searched: int
) -> scoring_rules.ScoringRules:
    """The scoring rules of this score, as far as the files say it."""
    each = [scoring_rules.of_descriptors(f.attributes, f["descriptor"].dtype) for f in files]
    return scoring_rules.ScoringRules(
        rules=rules,
        crop=str(files[0].attributes.get("crop", UNSAID)),
        ground_truth=scoring_rules.digest_of_truth(truth, ids),
        database=searched,
        distractors=searched - len(ids),
        **{k: scoring_rules.merged(e[k] for e in each) for k in each[0]},
    )


def compare(
    path: Path, scores: dict[str, dict[str, float]], rules: scoring_rules.ScoringRules
) -> None:
    """The change of mAP from the scores of `path`; a warning where their rules differ."""
    before = files.read_json(path)
    key = RULES if isinstance(before, dict) and RULES in before else OLD_RULES
    if not isinstance(before, dict) or key not in before:
        raise UserError(f"{path}: not what `score --json` prints")
    warning = scoring_rules.warning(
        str(path), rules, scoring_rules.from_map(before[key], str(path))
    )
    if warning:
        console.say(warning)
    for difficulty, of_difficulty in scores.items():
        if difficulty in before:
            then = before[difficulty]
            if not isinstance(then, dict) or not isinstance(then.get("map"), int | float):
                raise UserError(f"{path}: no map of {difficulty}; score again with --json")
            change = of_difficulty["map"] - then["map"]
            console.say(f"{difficulty}: {change:+.2f} mAP against {path}")


def ranks_of_videos(
    queries: store.Stored, searched: store.Stored, rows: np.ndarray, kept: np.ndarray,
    truth: GroundTruth, similarity: str,
) -> list[dict[str, np.ndarray]]:  # fmt: skip
    """Ranks of each query's positives by list, of videos (images are videos of one frame)."""
    sims = video.similarities(clips(queries).take(rows), clips(searched), similarity, kept)
    if truth.protocol.masked:
        rank.masked(sims, truth.lists, rank.labelled(truth.lists))
    return video.ranks(sims, truth.lists)


def clips(stored: store.Stored) -> video.Clips:
    """The videos of a descriptor file; images are videos of one frame."""
    rows, ids = stored["descriptor"], stored["image_id"]
    start: Any = stored["start"] if "start" in stored else np.arange(len(ids) + 1)
    start = checked_start(start, len(ids), str(stored.path))
    if start[-1] != len(rows):
        raise UserError(f"{stored.path}: start counts {start[-1]} frames, there are {len(rows)}")
    return video.Clips(Unit(rows), start)


def database_rows(searched: store.Stored, values: object, where: str) -> np.ndarray:
    """Rows of the database file that are searched: all but queries that are in no list."""
    queries = values.get("queries") if isinstance(values, dict) else None
    if not isinstance(queries, list) or not all(isinstance(q, dict) for q in queries):
        raise UserError(f"{where}: no list of queries, each a map")
    listed = {str(i) for q in queries for v in q.values() if isinstance(v, list) for i in v}
    only_query = {str(q.get("image_id")) for q in queries} - listed
    keep = ~np.isin(searched["image_id"], sorted(only_query)) if only_query else slice(None)
    return np.arange(len(searched["image_id"]))[keep]


def write_csv(path: Path, truth: GroundTruth, aps: dict[str, list[float]]) -> None:
    """difficulty, query, AP in percent; queries without positives are left out."""
    rows = [("difficulty", "query", "ap")]
    for difficulty, values in aps.items():
        pairs = zip(truth.queries, values, strict=True)
        rows += [(difficulty, q.image_id, f"{v:.4f}") for q, v in pairs if v == v]
    files.write_text(path, files.to_csv(rows))


def as_text(
    scores: dict[str, dict[str, float]],
    aps: dict[str, list[float]],
    rules: scoring_rules.ScoringRules,
) -> str:
    """A table for people, with the 95 % interval of mAP over the queries."""
    names = list(next(iter(scores.values()), {}))
    lines = [rules.text(), f"{'':10}" + "".join(f"{n:>11}" for n in names)]
    for difficulty, values in scores.items():
        counted = np.array([v for v in aps[difficulty] if v == v])
        low, high = metrics.bootstrap(counted)
        cells = "".join(f"{values[n]:11.2f}" for n in names)
        lines.append(
            f"{difficulty:10}{cells}   mAP 95 % {low:.1f} to {high:.1f} over {len(counted)} queries"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    console.main(app)
