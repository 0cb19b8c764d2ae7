"""Score descriptors of any origin by any of our protocols.

    whiten-mtd score QUERY.h5 DATABASE.h5 GROUND_TRUTH

Both files are descriptor files (`descriptor`, `image_id`); queries are looked up in QUERY.h5,
answers in DATABASE.h5. A new student's queries on an old one's database are scored the same way.
GROUND_TRUTH is a .json that `prepare` wrote, or an official `gnd_<set>.pkl` of the revisited sets,
in which nothing is executed. Files with a dataset `start` describe videos by their frames.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import typer

from ...core import console, files, store
from ...core.errors import UserError
from ...core.plugins import nearest
from ...datasets import revisitop
from ...images.sets import checked_start
from ...retrieval import metrics, rank, scoring_rules, video
from ...retrieval.ground_truth import GroundTruth
from ...retrieval.lazy_rows import Joined, Picked

app = console.app()
KIND = "descriptors"
UNSAID = "as described"  # of files that do not say how queries were cut


@app.command()
def main(
    query: Path,
    database: Path,
    ground_truth: Path,
    distractors: Path = typer.Option(None, help="Descriptors to search behind DATABASE."),
    per_query: Path = typer.Option(None, help="Write each query's AP to this CSV."),
    against: Path = typer.Option(None, help="What --json printed earlier, to compare with."),
    similarity: str = typer.Option("chamfer", help=f"Of videos: {', '.join(video.KINDS)}."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Rank DATABASE for every query of GROUND_TRUTH and print the scores."""
    if similarity not in video.KINDS:
        raise UserError(
            f"no similarity {similarity!r}{nearest(similarity, video.KINDS)}: choose from "
            f"{', '.join(video.KINDS)}"
        )
    asked, searched = store.Stored(query, KIND), store.Stored(database, KIND)
    values = answers(ground_truth)
    kept = database_rows(searched, values, str(ground_truth))
    ids = searched["image_id"][kept]
    truth = GroundTruth.parse(values, ids, str(ground_truth))
    row = {str(image_id): i for i, image_id in enumerate(asked["image_id"])}
    if missing := [q.image_id for q in truth.queries if q.image_id not in row]:
        raise UserError(f"{query}: {len(missing)} queries are not in it, the first: {missing[0]}")
    databases = [searched] if distractors is None else [searched, store.Stored(distractors, KIND)]
    width = asked["descriptor"].shape[1]
    for file in databases:
        if width != (other := file["descriptor"].shape[1]):
            raise UserError(
                f"{query} has {width} dimensions and {file.path} {other}: of different models"
            )
    asking = np.array([row[a.image_id] for a in truth.queries], dtype=np.int64)
    videos = truth.protocol == "svd" or any("start" in f for f in (asked, *databases))
    if videos:
        if distractors is not None:
            raise UserError(f"{distractors}: distractors of videos are a part of DATABASE")
        ranks, count = ranks_of_videos(asked, searched, asking, kept, truth, similarity), len(kept)
    else:
        rows = Joined(
            [Picked(searched["descriptor"], kept), *(f["descriptor"] for f in databases[1:])]
        )
        wanted = [a.answers for a in truth.queries]
        ranks, count = rank.ranks(asked["descriptor"][asking], rows, wanted), len(rows)
    found = metrics.all_scores(ranks, truth.protocol)
    if not found:
        raise UserError(f"{ground_truth}: no query has a positive, so there is nothing to score")
    aps = metrics.per_query(ranks, truth.protocol)
    if per_query is not None:
        write_csv(per_query, truth, aps)
    said = scoring_rules.rules_of(truth, similarity if videos else None)
    rules = rules_of(said, truth, ids, [asked, *databases], count)
    result = {**found, "protocol": asdict(rules)}
    console.result(files.to_json(result).rstrip() if json else as_text(found, aps, rules))
    if against is not None:
        compare(against, found, rules)


def answers(path: Path) -> Any:
    """A ground truth of ours (JSON) or an official one (a pickle), in our form."""
    if path.suffix != ".pkl":
        return files.read_json(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return {"protocol": "revisitop", "queries": revisitop.questions(revisitop.ground_truth(path))}


def rules_of(
    rules: str, truth: GroundTruth, ids: np.ndarray, files: list[store.Stored], searched: int
) -> scoring_rules.ScoringRules:
    """The protocol of this score, as far as the files say it."""
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
    path: Path, found: dict[str, dict[str, float]], rules: scoring_rules.ScoringRules
) -> None:
    """The change of mAP from an earlier score; a warning where the protocols differ."""
    earlier = files.read_json(path)
    if not isinstance(earlier, dict) or "protocol" not in earlier:
        raise UserError(f"{path}: not what `score --json` prints")
    told = scoring_rules.warning(
        str(path), rules, scoring_rules.from_map(earlier["protocol"], str(path))
    )
    if told:
        console.say(told)
    for difficulty, scores in found.items():
        if difficulty in earlier:
            change = scores["map"] - earlier[difficulty]["map"]
            console.say(f"{difficulty}: {change:+.2f} mAP against {path}")


def ranks_of_videos(
    asked: store.Stored, searched: store.Stored, asking: np.ndarray, kept: np.ndarray,
    truth: GroundTruth, similarity: str,
) -> list[dict[str, np.ndarray]]:  # fmt: skip
    """Ranks of each query's answers by kind, of videos (images are videos of one frame)."""
    wanted = [a.answers for a in truth.queries]
    sims = video.similarities(clips(asked).take(asking), clips(searched), similarity, kept)
    return video.ranks(video.masked(sims, wanted) if truth.protocol == "svd" else sims, wanted)


def clips(stored: store.Stored) -> video.Clips:
    """The videos of a descriptor file; images are videos of one frame."""
    rows, ids = stored["descriptor"], stored["image_id"]
    start: Any = stored["start"] if "start" in stored else np.arange(len(ids) + 1)
    start = checked_start(start, len(ids), str(stored.path))
    if start[-1] != len(rows):
        raise UserError(f"{stored.path}: start counts {start[-1]} frames, there are {len(rows)}")
    return video.Clips((rows,), start)


def database_rows(searched: store.Stored, values: object, where: str) -> np.ndarray:
    """Rows of the database file that are searched: all but the ground truth's queries."""
    queries = values.get("queries") if isinstance(values, dict) else None
    if not isinstance(queries, list) or not all(isinstance(q, dict) for q in queries):
        raise UserError(f"{where}: no list of queries, each a map")
    answers = {str(i) for q in queries for v in q.values() if isinstance(v, list) for i in v}
    asking = {str(q.get("image_id")) for q in queries} - answers
    keep = ~np.isin(searched["image_id"], sorted(asking)) if asking else slice(None)
    return np.arange(len(searched["image_id"]))[keep]


def write_csv(path: Path, truth: GroundTruth, aps: dict[str, list[float]]) -> None:
    """difficulty, query, AP in percent; queries without positives are left out."""
    rows = [("difficulty", "query", "ap")]
    for difficulty, values in aps.items():
        pairs = zip(truth.queries, values, strict=True)
        rows += [(difficulty, q.image_id, f"{v:.4f}") for q, v in pairs if v == v]
    files.write_text(path, files.to_csv(rows))


def as_text(
    found: dict[str, dict[str, float]],
    aps: dict[str, list[float]],
    rules: scoring_rules.ScoringRules,
) -> str:
    """A table for people, with the 95 % interval of mAP over the queries."""
    names = list(next(iter(found.values()), {}))
    lines = [rules.text(), f"{'':10}" + "".join(f"{n:>11}" for n in names)]
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
