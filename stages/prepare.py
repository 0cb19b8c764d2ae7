"""List the images once, draw their views, choose the validation groups.

    python -m stages.prepare data/prepared

Writes `train.h5` (images, groups, stored views), `validation.h5` and `.json` (validation groups
from training, to choose by) and `evaluation/<set>.h5` and `.json`, and says what it understood.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pydantic import Field

from .core import console, files, params, store
from .core.errors import UserError
from .datasets import Evaluation, Training, load
from .images import views
from .images.sets import image_digest, shown

app = console.app()


class Params(params.Section):
    """Section `prepare` of params.yaml."""

    dataset: str  # the training set, a file of stages/datasets
    seed: int = Field(ge=0)
    views: int = Field(ge=1, le=1000)
    epochs: int = Field(ge=1)
    validation_share: float = Field(ge=0, le=0.5)
    validation_images: int = Field(ge=2)
    labelled_share: float = Field(ge=0, le=1)


class Batch(params.Section):
    """What `prepare` looks at in section `fuse`: whether there will be groups for a batch."""

    batch: int = Field(ge=2)


@app.command()
def main(out: Path, params_file: Path = params.OPTION) -> None:
    """List the images, draw the views, choose the validation groups."""
    given = params.read(params_file)
    p, fuse = given.section("prepare", Params), given.part("fuse", Batch)
    sets = given.evaluation
    module, settings = load(p.dataset, "training", given)
    images = out / "images"
    images.mkdir(parents=True, exist_ok=True)
    training = module.training(settings, images)
    _check_training(training)
    train, validation = split(training, p)
    if not train.image_id:
        raise UserError(
            f"{params_file}: prepare.validation_share makes validation images of all "
            f"{len(validation.image_id)} images and leaves none to train on; lower it"
        )
    evaluation = {}
    for name, entry in sets.items():  # all of them before anything is written
        module, settings = load(entry.dataset, "evaluation", given)
        evaluation[name] = module.evaluation(settings, images, name)
        _refuse_overlap(training, evaluation[name], name)
    _refuse_queries(sets, evaluation)
    (out / "evaluation").mkdir(exist_ok=True)  # an output, also where there is nothing to score
    counts = views.expected_counts(train.group, epochs=p.epochs, most=p.views)
    if train.frames is not None:
        counts += counts % 2  # two views show the same frame
    _write_train(out / "train.h5", train, counts, p)
    _write_validation(out, measured(validation, p))
    console.say(_paragraph(p, train, validation, counts))
    for note in (*train.notes, *cautions(p, train, validation, fuse.batch)):
        console.say(f"  {note}")
    if validation.image_id:
        console.say(f"  {certainty(validation)}")
    for name, benchmark in evaluation.items():
        write_evaluation(out / "evaluation", name, benchmark)
        roles = {r: benchmark.role.count(r) for r in dict.fromkeys(benchmark.role)}
        noun = "images" if benchmark.frames is None else "videos"
        console.say(f"{name}: {', '.join(f'{n} {r} {noun}' for r, n in roles.items())}")
        for note in benchmark.notes:
            console.say(f"  {note}")


def split(training: Training, p: Params) -> tuple[Training, Training]:
    """(training, validation): `validation_share` of the groups of two or more, by seed.

    Of the remaining groups `labelled_share` keep their label; the images of the others stay, each
    by itself. The choice depends on the group's number alone, so more groups move none.
    """
    sizes = views.group_sizes(training.group)
    held = (sizes > 1) & (_unit_hash(training.group, f"{p.seed}/validation") < p.validation_share)
    labelled = _unit_hash(training.group, f"{p.seed}/labelled") < p.labelled_share
    group = np.where(labelled, training.group, -1).astype(np.int32)
    return _rows(training, ~held, group), _rows(training, held, training.group)


def measured(validation: Training, p: Params) -> Training:
    """The validation images that are measured: of each group `validation_images`, by seed.

    The others stay unseen. Every image is a query whose positives are the rest of its group, so
    that a group of ten thousand would cost more than all the others together.
    """
    order = np.array([_hash01(f"{p.seed}/measured/{i}") for i in validation.image_id])
    rows = np.lexsort((order, validation.group))
    group = validation.group[rows]
    place = np.arange(len(rows)) - np.searchsorted(group, group)  # within its group
    keep = np.zeros(len(rows), dtype=bool)
    keep[rows[place < p.validation_images]] = True
    return _rows(validation, keep, validation.group)


def write_evaluation(folder: Path, name: str, benchmark: Evaluation) -> None:
    """`<name>.h5`, and `<name>.json` where there is a ground truth."""
    arrays = {
        "image_id": np.array(benchmark.image_id, dtype=str),
        "path": np.array(benchmark.path, dtype=str),
        "role": np.array(benchmark.role, dtype=str),
        "box": np.asarray(benchmark.box, dtype=np.float32),
    }
    if benchmark.frames is not None:
        arrays["start"] = np.concatenate([[0], np.cumsum(benchmark.frames)]).astype(np.int64)
    store.write(
        folder / f"{name}.h5",
        "evaluation",
        arrays,
        root=benchmark.root.as_posix(),
        contents=image_digest(benchmark.root, benchmark.path, benchmark.frames),
    )
    if benchmark.queries is not None:
        ground_truth = {
            "format": store.file_format("ground-truth"), "protocol": benchmark.protocol,
            "queries": benchmark.queries,
        }  # fmt: skip
        files.write_text(folder / f"{name}.json", files.to_json(ground_truth))


def _check_training(t: Training) -> None:
    if not t.image_id:
        raise UserError(f"{t.root}: no images to train on")
    if len(set(t.image_id)) < len(t.image_id):
        raise UserError(f"{t.root}: some image ids occur twice")


def _refuse_queries(
    sets: dict[str, params.EvaluationEntry], evaluation: dict[str, Evaluation]
) -> None:
    """Distractors must have no queries: their images would be positives of them."""
    for name, entry in sets.items():
        if entry.distractors is not None and evaluation[entry.distractors].queries is not None:
            raise UserError(
                f"evaluation.{name}.distractors: set {entry.distractors} has queries of its own; "
                "name a set of distractors"
            )


def _refuse_overlap(training: Training, benchmark: Evaluation, name: str) -> None:
    root, other = training.root.resolve(), benchmark.root.resolve()
    if root != other and root not in other.parents and other not in root.parents:
        return  # a million names need not be looked at
    trained_on = {os.path.join(root, p) for p in training.path}
    both = [p for p in benchmark.path if os.path.join(other, p) in trained_on]
    if both:
        raise UserError(
            f"evaluation set {name}: {len(both)} of its images are training images too, "
            f"the first: {both[0]}; scores on them would mean nothing"
        )


def _unit_hash(group: np.ndarray, salt: str) -> np.ndarray:
    """(n,) float64 in [0, 1) of each image's group; 1 where it has none."""
    ids, inverse = np.unique(group, return_inverse=True)
    draws = np.array([_hash01(f"{salt}/{g}") if g >= 0 else 1.0 for g in ids.tolist()])
    return draws[inverse]


def _hash01(text: str) -> float:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48


def _rows(t: Training, keep: np.ndarray, group: np.ndarray) -> Training:
    rows = np.flatnonzero(keep)
    ids, paths = [t.image_id[i] for i in rows], [t.path[i] for i in rows]
    frames = None if t.frames is None else t.frames[rows]
    return Training(t.root, ids, paths, group[rows], t.notes, frames)


def _write_train(path: Path, t: Training, counts: np.ndarray, p: Params) -> None:
    view_image, view = views.draw_all(p.seed, t.image_id, counts, t.frames)
    columns: tuple[str, ...] = views.COLUMNS
    paths: Iterable[str] = t.path
    if t.frames is not None:
        columns = views.VIDEO_COLUMNS
        paths = shown(t.path, view_image, view[:, columns.index("frame")])
    store.write(
        path,
        "train",
        {
            "image_id": np.array(t.image_id), "path": np.array(t.path), "group": t.group,
            "view_image": view_image, "view": view,
        },
        columns=" ".join(columns),
        root=t.root.as_posix(),
        contents=image_digest(t.root, paths),
    )  # fmt: skip


def _write_validation(out: Path, v: Training) -> None:
    """The validation groups, as an evaluation set in which every image is a query for its group."""
    members: dict[int, list[str]] = {}
    for image_id, group in zip(v.image_id, v.group.tolist(), strict=True):
        members.setdefault(group, []).append(image_id)
    queries = [
        {"image_id": i, "positive": [j for j in members[g] if j != i], "junk": [i]}
        for i, g in zip(v.image_id, v.group.tolist(), strict=True)
    ]
    n = len(v.image_id)
    box = np.full((n, 4), np.nan, dtype=np.float32)
    roles = ["database"] * n
    groups = Evaluation(v.root, v.image_id, v.path, roles, box, "positives", queries, [], v.frames)
    write_evaluation(out, "validation", groups)


def _paragraph(p: Params, t: Training, v: Training, counts: np.ndarray) -> str:
    sizes = views.group_sizes(t.group)
    groups = len(np.unique(t.group[t.group >= 0]))
    unlabelled = int((t.group < 0).sum())
    validation = len(np.unique(v.group))
    noun = "image" if t.frames is None else "video"
    return (
        f"{p.dataset}: {len(t.image_id)} training {noun}s, {groups} groups of "
        f"{sizes.min()} to {sizes.max()}, {unlabelled} {noun}s without a group; "
        f"{int(counts.sum())} views, {counts.min()} to {counts.max()} per {noun}, for "
        f"{p.epochs} epochs; {validation} validation groups ({len(v.image_id)} {noun}s)"
    )


def certainty(v: Training) -> str:
    """How far a mAP on the validation groups can be off, before anything is measured.

    Group means of average precision lie between 0 and 100, so that they spread by 50 at most; by
    about 15 they did on the demo and on photographs.
    """
    groups = len(np.unique(v.group))
    if groups < 2:
        return "one validation group tells nothing beyond doubt: raise prepare.validation_share"
    return (
        f"a mAP on {groups} validation groups ({len(v.image_id)} queries) has a standard error of "
        f"about {15 / groups**0.5:.0f}, {50 / groups**0.5:.0f} at most; train says it of each"
    )


def cautions(p: Params, t: Training, v: Training, batch: int) -> list[str]:
    """Lines on what a later stage will refuse or go without."""
    lines = []
    unlabelled = t.group < 0
    groups = len(np.unique(t.group[~unlabelled])) + int(unlabelled.sum())
    if groups < batch:
        lines.append(
            f"fuse.batch is {batch}, but there are {groups} training groups (an image without one "
            f"counts as one): set it to at most {groups}"
        )
    if p.validation_share > 0 and not v.image_id:
        lines.append(
            "no validation groups: too few groups have two images or more; raise "
            "prepare.validation_share or change prepare.seed"
        )
    return lines


if __name__ == "__main__":
    console.main(app)
