"""Fuse the teachers of the ensemble: one target matrix a batch, one prototype a group.

    python -m stages.fuse data/prepared/train.h5 data/whitened data/targets \\
        models/whitening/fused.h5 --features data/features

Plans the batches of `fuse.epochs` epochs, fuses the similarities of each, and writes them with
their plan, so that training needs no teacher. Beside them: the prototypes, and the projection of
the concatenated teachers to one frame; both for each frame of `fuse.frames`, of which `train` takes
one. Only the teachers that `ensemble` names are opened.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from pydantic import Field

from .core import console, params, store
from .core.errors import UserError
from .core.plugins import nearest
from .distill import batches, frames, learned_whitening, prototypes, whitening
from .distill.ensemble import Ensemble
from .distill.fusion import STRATEGIES
from .distill.whitening import Moments, Whitening, l2n
from .images.sets import TrainSet

app = console.app()
BLOCK_ROWS = 16384


class Params(params.Section):
    """Section `fuse` of params.yaml."""

    strategy: str
    batch: int = Field(ge=2)
    epochs: int = Field(ge=1, le=10_000)
    held_out_epochs: int = Field(ge=0, le=1)
    prototypes: Literal["ensemble", "random"]
    frames: Annotated[list[frames.Name], Field(min_length=1)]
    dim: int = Field(ge=1)
    samples: int = Field(ge=2)
    seed: int = Field(ge=0)


@app.command()
def main(
    train: Path,
    whitened: Path,
    targets: Path,
    fused_whitening: Path,
    features: Path | None = typer.Option(
        None, help="Descriptors as the teachers give them, for all frames but `whitened`."
    ),
    params_file: Path = params.OPTION,
) -> None:
    """Fuse the ensemble's similarities into targets and its descriptors into prototypes."""
    given = params.read(params_file)
    p = given.section("fuse", Params)
    if p.strategy not in STRATEGIES:
        raise UserError(
            f"{params_file}: fuse.strategy: no {p.strategy!r}{nearest(p.strategy, STRATEGIES)}: "
            f"choose from {', '.join(STRATEGIES)}"
        )
    views = TrainSet.read(train)
    ensemble = Ensemble.read(given.ensemble, whitened, views)
    _check_groups(p, views, params_file)
    p = fitting(possible(p, views, features, params_file), ensemble)
    own = None
    if features is not None and p.frames != [frames.WHITENED]:
        own = Ensemble.of_features(given.ensemble, features, views)
    forget(targets, fused_whitening.parent)
    write_targets(targets, views, ensemble, p)
    write_prototypes(targets / "prototypes.h5", fused_whitening, views, ensemble, p)
    if own is not None:
        write_frames(targets, fused_whitening.parent, views, ensemble.digest, own, p)


def forget(targets: Path, whitenings: Path) -> None:
    """Remove our own outputs of an earlier run; what holds the frames is an output, even empty."""
    made = [frames.prototypes_file(targets, n) for n in frames.NAMES]
    made += [frames.fused_file(whitenings, n) for n in frames.NAMES if n != frames.WHITENED]
    for old in (*targets.glob("epoch-*.h5"), targets / "held-out.h5", *made):
        old.unlink(missing_ok=True)
    (whitenings / frames.FOLDER).mkdir(parents=True, exist_ok=True)


def possible(p: Params, views: TrainSet, features: Path | None, where: Path) -> Params:
    """`p` with those of its frames that can be made; says which are left out.

    Raises UserError where none is left.
    """
    why: dict[str, str] = {}
    others = [n for n in p.frames if n != frames.WHITENED]
    if p.prototypes == "random":  # points drawn at random stand in no frame of the teachers
        why = dict.fromkeys(others, "fuse.prototypes is random")
    elif features is None:
        why = dict.fromkeys(others, "it needs --features")
    elif (views.group < 0).all():
        why = {frames.LEARNED: "it needs groups, and this training set has none"}
    left = [n for n in dict.fromkeys(p.frames) if n not in why]
    if not left:
        raise UserError(f"{where}: fuse.frames: no {others[0]}: {why[others[0]]}; add whitened")
    for name in (n for n in p.frames if n in why):
        console.say(f"frame {name} is left out: {why[name]}")
    return p.model_copy(update={"frames": left})


def write_targets(folder: Path, views: TrainSet, ensemble: Ensemble, p: Params) -> None:
    """One shard an epoch, and one to measure the loss on where `held_out_epochs` plans it."""
    names = [f"epoch-{e:04d}" for e in range(p.epochs)] + ["held-out"] * p.held_out_epochs
    plan = batches.plan(views.group, views.spans(), batch=p.batch, epochs=len(names), seed=p.seed)
    about: dict[str, Any] = {
        "train": views.digest, "whitened": ensemble.digest, "strategy": p.strategy,
        "teachers": json.dumps(ensemble.names), "epochs": p.epochs, "held_out": p.held_out_epochs,
        "seed": p.seed,
    }  # fmt: skip
    epochs = zip(names, plan, strict=True)
    for e, (name, (anchor, positive)) in enumerate(
        console.progress(epochs, total=len(names), label=f"fusing by {p.strategy}")
    ):
        steps, batch = anchor.shape
        with store.create(folder / f"{name}.h5", "targets", **about) as writer:
            writer.array("anchor", anchor)
            writer.array("positive", positive)
            writer.dataset("target", (steps, batch, batch), np.float16)
            for s in range(steps):
                rng = np.random.default_rng([p.seed, e, s])
                sims = ensemble.similarities(anchor[s], positive[s])
                fused = STRATEGIES[p.strategy](sims, rng)
                writer.append("target", fused[None].astype(np.float16))
    console.say(
        f"{p.epochs} epochs of {steps} batches of {batch} pairs, {', '.join(ensemble.names)}"
    )


def write_prototypes(
    path: Path, fused_whitening: Path, views: TrainSet, ensemble: Ensemble, p: Params
) -> None:
    """The frame of the ensemble, and each view's prototype in it."""
    projection = prototypes.fit_projection(_sampled(ensemble, len(views.view_image), p), p.dim)
    label = batches.units(views.group)[views.view_image].astype(np.int32)
    count = int(label.max()) + 1
    if p.prototypes == "random":  # a control: what the labels alone would teach
        prototype = l2n(np.random.default_rng(p.seed).standard_normal((count, p.dim)))
    else:
        prototype = group_means(ensemble, projection, label)
    about = {"train": views.digest, "whitened": ensemble.digest}
    store.write(
        path,
        "prototypes",
        {"prototype": prototype.astype(np.float16), "view_prototype": label},
        frames=json.dumps(p.frames),
        **about,
    )
    whitening.write(
        fused_whitening, projection, exponent=0.0, floor=0.0, samples=p.samples,
        teachers=json.dumps(ensemble.names), **about,
    )  # fmt: skip
    console.say(
        f"{count} {p.prototypes} prototypes of {p.dim} dimensions, "
        f"{100 * projection.energy_kept:.1f} % of the concatenated energy kept"
    )


def write_frames(
    targets: Path, whitenings: Path, views: TrainSet, whitened: str, own: Ensemble, p: Params
) -> None:
    """The frames beside `whitened`, of the teachers' `own` descriptors.

    `whitened`: digest of the whitened descriptors that the targets beside them are made of.
    """
    names = [n for n in p.frames if n != frames.WHITENED]
    moments = moments_of(own, p) if any(n != "raw" for n in names) else []
    for name in names:
        seen = replace(own, through=first_steps(name, own, moments, views, p))
        write_frame(name, targets, whitenings, views, whitened, seen, p)


def write_frame(
    name: str, targets: Path, whitenings: Path, views: TrainSet, whitened: str, seen: Ensemble,
    p: Params,
) -> None:  # fmt: skip
    """One more frame, of the ensemble as it is `seen` in it, and each view's prototype in it."""
    projection = prototypes.fit_projection(_sampled(seen, len(views.view_image), p), p.dim)
    label = batches.units(views.group)[views.view_image].astype(np.int32)
    about = {"train": views.digest, "whitened": whitened, "features": seen.digest, "frame": name}
    store.write(
        frames.prototypes_file(targets, name), "prototypes",
        {"prototype": group_means(seen, projection, label).astype(np.float16),
         "view_prototype": label}, **about,
    )  # fmt: skip
    frames.write(
        frames.fused_file(whitenings, name), projection,
        dict(zip(seen.names, seen.through or (), strict=True)), exponent=0.0, floor=0.0,
        samples=p.samples, **about,
    )  # fmt: skip
    console.say(
        f"frame {name}: {100 * projection.energy_kept:.1f} % of the concatenated energy kept"
    )


def moments_of(own: Ensemble, p: Params) -> list[Moments]:
    """Those of each teacher's `own` descriptors, over the same sample of the views as the
    projection's. Raises UserError where they are all the same."""
    found = []
    for teacher, descriptor in zip(own.names, own.descriptors, strict=True):
        one = replace(own, names=(teacher,), descriptors=(descriptor,))
        moments = whitening.moments(_sampled(one, len(descriptor), p), descriptor.shape[1])
        if not float(np.trace(moments.covariance)) > 0:
            raise UserError(f"teacher {teacher}: its descriptors are all the same; mend it")
        found.append(moments)
    return found


def first_steps(
    name: str, own: Ensemble, moments: list[Moments], views: TrainSet, p: Params
) -> tuple[Whitening | None, ...]:
    """What each teacher's `own` descriptors, of these `moments`, go through first in frame
    `name`."""
    if name == "raw":
        return (None,) * len(own.names)
    group = views.group[views.view_image]
    fitted = []
    for descriptor, total in zip(own.descriptors, moments, strict=True):
        within = None
        if name == frames.LEARNED:
            within = learned_whitening.within(
                descriptor, group, views.view_image, p.samples, np.random.default_rng(p.seed)
            )
        fitted.append(frames.fit(name, total, within, p.dim))
    return tuple(fitted)


def group_means(ensemble: Ensemble, projection: Whitening, label: np.ndarray) -> np.ndarray:
    """(p, dim) float32 unit rows: the mean fused embedding of the views of each label (m,)."""
    means = prototypes.Means(int(label.max()) + 1, len(projection.projection))
    for rows, embedding in fused_embeddings(ensemble, projection, len(label)):
        means.add(label[rows], embedding)
    return means.result()


def fused_embeddings(
    ensemble: Ensemble, projection: Whitening, count: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """(rows, their fused embeddings (b, dim) float32) in blocks over all stored views."""
    for start in range(0, count, BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, count))
        yield rows, whitening.apply(ensemble.concatenated(rows), projection)


def _sampled(ensemble: Ensemble, count: int, p: Params) -> Iterable[np.ndarray]:
    """Concatenated rows of a seeded sample of the views, in blocks."""
    rows = np.arange(count)
    if p.samples < count:
        rows = np.sort(np.random.default_rng(p.seed).choice(count, p.samples, replace=False))
    starts = range(0, len(rows), BLOCK_ROWS)
    return (ensemble.concatenated(rows[i : i + BLOCK_ROWS]) for i in starts)


def fitting(p: Params, ensemble: Ensemble) -> Params:
    """`p` with no more dimensions than the ensemble has together."""
    width = sum(d.shape[1] for d in ensemble.descriptors)
    if p.dim <= width:
        return p
    console.say(
        f"fuse.dim is {p.dim} but the whitened teachers have {width} dimensions together: "
        f"{width} are used"
    )
    return p.model_copy(update={"dim": width})


def _check_groups(p: Params, views: TrainSet, where: Path) -> None:
    groups = int(batches.units(views.group).max()) + 1
    if p.batch > groups:
        raise UserError(
            f"{where}: fuse.batch is {p.batch} but there are only {groups} training groups, and "
            f"a group occurs once in a batch; set it to at most {groups}"
        )


if __name__ == "__main__":
    console.main(app)
