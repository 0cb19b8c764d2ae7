"""Fuse the teachers of the ensemble: one target matrix a batch, one prototype a group.

    python -m stages.fuse data/prepared/train.h5 data/whitened data/targets \\
        models/whitening/fused.h5

Plans the batches of `fuse.epochs` epochs, fuses the similarities of each, and writes them with
their plan, so that training needs no teacher. Beside them: the prototypes, and the projection of
the concatenated teachers to one frame. Only the teachers that `ensemble` names are opened.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from .core import console, files, params, store
from .core.errors import UserError
from .core.plugins import nearest
from .distill import batches, prototypes, whitening
from .distill.fusion import STRATEGIES
from .distill.targets import read_whitened
from .distill.whitening import Whitening, l2n
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
    dim: int = Field(ge=1)
    samples: int = Field(ge=2)
    seed: int = Field(ge=0)


@dataclass(frozen=True)
class Ensemble:
    """The whitened descriptors of the named teachers, row for row the stored views."""

    names: tuple[str, ...]
    descriptors: tuple[np.ndarray, ...]
    digest: str  # of all of them, in this order

    @classmethod
    def read(cls, names: list[str], folder: Path, views: TrainSet) -> "Ensemble":
        """Open `folder/<name>.h5` for each name; refuses rows of other views."""
        stored = [read_whitened(folder / f"{name}.h5", views) for name in names]
        digest = files.digest_of([f.digest for f in stored])
        return cls(tuple(names), tuple(f["descriptor"] for f in stored), digest)

    def concatenated(self, rows: Any) -> np.ndarray:
        """(b, sum d_k) float32 of view rows (a slice or indices)."""
        side_by_side = prototypes.concatenate([d[rows] for d in self.descriptors])
        for d in self.descriptors:
            store.forget(d)
        return side_by_side

    def similarities(self, anchor: np.ndarray, positive: np.ndarray) -> np.ndarray:
        """(T, N, N) float32 similarities of two lists of view rows."""
        sims = np.empty((len(self.names), len(anchor), len(positive)), dtype=np.float32)
        for out, d in zip(sims, self.descriptors, strict=True):
            np.matmul(d[anchor].astype(np.float32), d[positive].astype(np.float32).T, out=out)
            store.forget(d)
        return sims


@app.command()
def main(
    train: Path,
    whitened: Path,
    targets: Path,
    fused_whitening: Path,
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
    p = fitting(p, ensemble)
    for old in (*targets.glob("epoch-*.h5"), targets / "held-out.h5", targets / "prototypes.h5"):
        old.unlink(missing_ok=True)  # our own outputs, of an earlier run
    write_targets(targets, views, ensemble, p)
    write_prototypes(targets / "prototypes.h5", fused_whitening, views, ensemble, p)


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
