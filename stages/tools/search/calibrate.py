"""Choose the score from which a result counts as a match, and keep it with the index.

    whiten-mtd calibrate my-index --rate 0.01
    whiten-mtd calibrate my-index --precision 0.8
    whiten-mtd calibrate my-index --measure data/prepared/evaluation/mine.h5

The images of the validation groups are described by the index's own student. A pair of images of
different groups is a false match where its score reaches the threshold; `--rate` is their share.
`--precision` chooses the threshold by the share of right ones among the matches instead, which is
measured in any case: on searches for the images of the validation groups. What a rate means for a
whole search of this index is printed too, or calibrated by `--per search`.
An index holds images, so of videos single frames are compared, those of different videos only.
"""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import typer

from ...core import console, files
from ...core.errors import UserError
from ...images.sets import EvaluationSet
from ...retrieval.ground_truth import GroundTruth
from ...retrieval.onnx_student import Exported
from . import answers, changes, faiss_index, matches
from . import generations as indexes
from .generations import Index
from .matches import Labelled, Results

app = console.app()
FRAMES = 8  # of a video, evenly spaced: more of them look alike
FEW_GROUPS = 20  # below it the rate on other groups is not much like the one asked for


@app.command()
def main(
    index: Path,
    images: Path = typer.Option(
        Path("data/prepared/validation.h5"), help="Images of known groups, never trained on."
    ),
    rate: float = typer.Option(0.01, help="Share of false matches to allow, 0 to 1."),
    per: str = typer.Option("pair", help="Of pairs, or of searches: pair or search."),
    precision: float = typer.Option(None, help="Share of matches to be right; instead of --rate."),
    measure: Path = typer.Option(None, help="Also measure the threshold on this other set."),
    model: Path = typer.Option(None, help="An exported student, where the index has none in it."),
) -> None:
    """Calibrate INDEX at a false-match rate."""
    if not 0 < rate < 1 or per not in ("pair", "search"):
        raise UserError("--rate is a share between 0 and 1, --per is pair or search")
    if precision is not None and not 0 < precision <= 1:
        raise UserError("--precision is a share between 0 and 1")
    indexes.current(index)  # before anything is made in a folder that is no index
    with changes.writing(index):
        opened, net = answers.open_index(index, model)
        known = labelled(images, net)
        scores = false_scores(opened, known) if per == "pair" else search_scores(opened, known)
        if len(scores) * rate < 1:
            raise UserError(
                f"{images}: {len(scores)} {per}s of different things cannot tell a rate of "
                f"{rate:g}; give more images, or a rate of at least {1 / max(len(scores), 1):.2g}"
            )
        results = matches.first_results(opened, known)
        threshold = threshold_at(scores, rate)
        if precision is not None:
            threshold = precise(results, precision, images)
            rate = float((scores >= threshold).mean())
        groups = len(np.unique(known.group))
        calibration = {
            "threshold": threshold, "rate": rate, "per": per, "samples": len(scores),
            "groups": groups, "images": files.digest_of(known.files),
            **matches.meaning(results, threshold),
        }  # fmt: skip
        about = {**opened.about, "calibration": calibration}
        changes.write(index, opened.index, indexes.images_of(opened), about)
    if groups < FEW_GROUPS:
        console.say(
            f"warning: {groups} groups are few: pairs of the same two groups score "
            f"alike, and other groups may match several times as often; {FEW_GROUPS} tell more"
        )
    chosen = f"threshold {threshold:.4f}, at {100 * rate:.3g} % false matches per {per}"
    console.result(f"{chosen}; {matches.words(calibration)}")
    if advice := better(results, calibration):
        console.say(advice)
    report(opened, known, threshold, images)
    if measure is not None:
        report(opened, labelled(measure, net), threshold, measure)


def precise(results: Results, precision: float, images: Path) -> float:
    """The threshold of that precision. Raises UserError where none reaches it."""
    threshold = results.reaching(precision)
    if threshold is None:
        raise UserError(
            f"--precision {precision:g}: no threshold reaches it on {images}; the best one has "
            f"{results.best():.2f}; nothing was changed"
        )
    return threshold


def better(results: Results, calibration: dict[str, Any]) -> str:
    """Which threshold would make a match worth its green frame; empty where this one does."""
    wanted = matches.RELIABLE_FROM
    if matches.about(calibration)["reliable"] or not calibration["usable"]:
        return ""
    threshold = results.reaching(wanted)
    if threshold is None:
        return f"matches are not shown green: no threshold reaches a precision of {wanted:g}"
    recall = 100 * (results.at(threshold)["recall"] or 0)
    return (
        f"matches are shown green from a precision of {wanted:g} on: `--precision {wanted:g}` "
        f"gives it, by a threshold of {threshold:.4f} that finds {recall:.0f} %"
    )


def report(opened: Index, known: Labelled, threshold: float, of: Path) -> None:
    """What the threshold does on a set: false and true matches of pairs, false ones of searches."""
    false, true = false_scores(opened, known), true_scores(opened, known)
    searches = search_scores(opened, known)
    images = f"{len(known.group)} images"
    if known.videos:
        images = f"{len(known.group)} frames of {len(np.unique(known.source))} videos"
    text = f"{of}: {len(np.unique(known.group))} things, {images}: "
    text += f"{share(false, threshold)} of {len(false)} pairs of different things match, "
    text += f"{share(true, threshold)} of {len(true)} pairs of the same; "
    text += f"{share(searches, threshold)} of {len(searches)} searches for a thing that is not "
    console.result(text + f"among the {len(opened)} images of this index would match something")


def share(scores: np.ndarray, threshold: float) -> str:
    """`1.23 %` of scores that reach the threshold."""
    return f"{100 * float((scores >= threshold).mean()):.2f} %" if len(scores) else "-"


def labelled(path: Path, net: Exported) -> Labelled:
    """Describe a set with a ground truth; images that no query names are things of their own."""
    images = EvaluationSet.read(path)
    images.check_images()
    where = path.with_suffix(".json")
    truth = files.read_json(where)
    lists = GroundTruth.parse(truth, images.image_id, str(where)).protocol.lists
    named = ("image_id", *(kind for kind in lists if kind != "negative"))
    group = groups_of(images, [{k: q[k] for k in named} for q in truth["queries"]])
    if len(np.unique(group)) < 2:
        raise UserError(
            f"{path}: {len(group)} {'images' if images.start is None else 'videos'} of "
            f"{len(np.unique(group))} groups; calibration needs two groups at least: "
            "raise prepare.validation_share, or give --images"
        )
    source, number = frames_of(images)
    paths = [str(images.file(i).resolve()) for i in number.tolist()]
    rows, kept, errors = net.images([Path(f) for f in paths])
    if errors:
        raise UserError(errors[0])
    return Labelled(rows, group[source[kept]], source[kept], [paths[i] for i in kept])


def groups_of(images: EvaluationSet, queries: list[dict[str, Any]]) -> np.ndarray:
    """(n,) a number for each row of a set: one for all that are named as answers to each other."""
    row = {str(image_id): i for i, image_id in enumerate(images.image_id)}
    group = np.arange(len(row))
    for query in queries:
        answers = [ids for kind, ids in query.items() if kind not in ("image_id", "negative")]
        members = [row[i] for i in (query["image_id"], *chain(*answers)) if i in row]
        group[np.isin(group, group[members])] = group[members].min()
    return group


def frames_of(images: EvaluationSet) -> tuple[np.ndarray, np.ndarray]:
    """(rows of the set, numbers of the images to describe): of a video some of its frames."""
    if images.start is None:
        return np.arange(len(images.image_id)), np.arange(len(images.image_id))
    spans = zip(images.start[:-1], images.start[1:], strict=True)
    chosen = [np.unique(np.linspace(a, b - 1, min(FRAMES, b - a)).astype(int)) for a, b in spans]
    return np.repeat(np.arange(len(chosen)), [len(c) for c in chosen]), np.concatenate(chosen)


def threshold_at(scores: np.ndarray, rate: float) -> float:
    """The lowest score that at most `rate` of `scores` reach: float32, as scores are compared."""
    descending = np.sort(scores.astype(np.float32))[::-1]
    return float(np.nextafter(descending[int(rate * len(descending))], np.float32(np.inf)))


def false_scores(opened: Index, known: Labelled) -> np.ndarray:
    """Scores of a query of one thing with images of another, as the index would keep them."""
    other = known.group[:, None] != known.group
    return (known.rows @ faiss_index.seen(opened.index, known.rows).T)[other]


def true_scores(opened: Index, known: Labelled) -> np.ndarray:
    """Scores of different images of one thing, of frames of different videos."""
    same = (known.group[:, None] == known.group) & (known.source[:, None] != known.source)
    return (known.rows @ faiss_index.seen(opened.index, known.rows).T)[same]


def search_scores(opened: Index, known: Labelled) -> np.ndarray:
    """Best score of each image in the index with the images of its own thing left out."""
    places: dict[str, int] = {f: i for i, f in enumerate(opened.files())}
    own: dict[int, set[int]] = {}
    for file, group in zip(known.files, known.group.tolist(), strict=True):
        own.setdefault(group, set()).add(places.get(file, -1))
    most = max(len(rows) for rows in own.values()) + 1
    best = []
    for scores, rows, group in zip(*opened.search(known.rows, most), known.group, strict=True):
        kept: list[Any] = [s for s, r in zip(scores, rows, strict=True) if r not in own[int(group)]]
        best += kept[:1]
    return np.array(best, dtype=np.float64)


if __name__ == "__main__":
    console.main(app)
