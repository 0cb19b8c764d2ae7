"""Make every teacher speak the same language.

    python -m stages.whiten TEACHER data/prepared/train.h5 data/features/TEACHER.h5 \\
        models/whitening/TEACHER.h5 data/whitened/TEACHER.h5

Fits whitening on a seeded sample of one teacher's descriptors, in a stream, in float64, and applies
it to all of them. No network is loaded.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from .core import console, files, params, store
from .core.errors import UserError
from .distill import learned_whitening, whitening
from .distill.whitening import Whitening
from .images.sets import TrainSet

app = console.app()
BLOCK_ROWS = 8192
SAMPLED_ROWS = 2048  # scattered rows at a time: each brings its neighbours' pages into memory
ENOUGH = 20  # rows per dimension below which a covariance is a guess


class Params(params.Section):
    """Section `whiten` of params.yaml."""

    method: Literal["pca", "learned", "none"]
    dim: int | dict[str, int]
    exponent: float = Field(ge=0, le=1)
    floor: float = Field(gt=0, lt=1)
    samples: int = Field(ge=2)
    pairs: int = Field(ge=1)
    shrinkage: Literal["auto"] | Annotated[float, Field(ge=0, le=1)]
    seed: int = Field(ge=0)

    def dim_of(self, teacher: str) -> int:
        """Output dimensions for `teacher`."""
        dim = self.dim if isinstance(self.dim, int) else self.dim.get(teacher)
        if dim is None or dim < 1:
            raise UserError(f"whiten.dim: no positive number of dimensions for teacher {teacher}")
        return dim


@app.command()
def main(
    teacher: str,
    train: Path,
    features: Path,
    out_whitening: Path,
    out_whitened: Path,
    params_file: Path = params.OPTION,
) -> None:
    """Fit whitening on TEACHER's descriptors and apply it to all of them."""
    p = params.read(params_file).section("whiten", Params)
    views = TrainSet.read(train)
    stored = store.Stored(features, "features")
    descriptor = _descriptors(stored, views, features, train)
    own = descriptor.shape[1]
    dim = own if p.method == "none" else p.dim_of(teacher)
    if dim > own:
        raise UserError(
            f"{params_file}: whiten.dim is {dim} but teacher {teacher} has {own} dimensions; "
            f"set whiten.dim to at most {own} (a map teacher: dim serves different widths)"
        )
    fitted, shrinkage = fit(descriptor, views, p, dim, features)
    console.say(
        f"{teacher}: {own} to {dim} dimensions, {100 * fitted.energy_kept:.1f} % of the energy kept"
        + (f", shrinkage {shrinkage:g}" if p.method == "learned" else "")
    )
    whitening.write(
        out_whitening, fitted, exponent=p.exponent, floor=p.floor, samples=p.samples,
        method=p.method, shrinkage=float(shrinkage), features=stored.digest, train=views.digest,
        teacher=teacher,
    )  # fmt: skip
    with store.create(
        out_whitened, "whitened", teacher=teacher, features=stored.digest, train=views.digest,
        parameters=files.digest_of(p.model_dump()),
    ) as writer:  # fmt: skip
        writer.dataset("descriptor", (len(descriptor), dim), np.float16)
        for rows in console.progress(blocks(descriptor), label=f"{teacher}: whitening"):
            writer.append("descriptor", whitening.apply(rows, fitted))


def fit(
    descriptor: np.ndarray, views: TrainSet, p: Params, dim: int, where: Path
) -> tuple[Whitening, float]:
    """The whitening of (m, d) stored descriptors, and the shrinkage used (0 for PCA)."""
    m, d = descriptor.shape
    if p.method == "none":
        return Whitening(np.zeros(d), np.eye(d), np.ones(d), 1.0), 0.0
    if min(p.samples, m) < ENOUGH * d:
        console.say(
            f"warning: {min(p.samples, m)} rows for {d} dimensions; {ENOUGH * d} or more make a "
            "covariance that can be trusted"
        )
    total = moments(descriptor, p)
    spread = float(np.trace(total.covariance))
    if not np.isfinite(spread) or spread <= 0:
        what = "are all the same" if np.isfinite(spread) else "hold values that are no numbers"
        raise UserError(f"{where}: its descriptors {what}; extract again, or mend the teacher")
    if p.method == "pca":
        return whitening.fit_pca(
            total.mean, total.covariance, dim=dim, exponent=p.exponent, floor=p.floor
        ), 0.0
    return fit_learned(descriptor, views, total, p, dim)


def moments(descriptor: np.ndarray, p: Params) -> whitening.Moments:
    """Mean and covariance of a seeded sample of (m, d) stored descriptors, read in blocks."""
    m, d = descriptor.shape
    if p.samples >= m:
        return whitening.moments(blocks(descriptor), d)
    sample = np.sort(np.random.default_rng(p.seed).choice(m, p.samples, replace=False))
    pieces = (sample[i : i + SAMPLED_ROWS] for i in range(0, p.samples, SAMPLED_ROWS))
    return whitening.moments(store.blocks(descriptor, pieces), d)


def fit_learned(
    descriptor: np.ndarray, views: TrainSet, total: whitening.Moments, p: Params, dim: int
) -> tuple[Whitening, float]:
    """Learned whitening; `shrinkage: auto` is the value that ranks held-out groups best."""
    group = views.group[views.view_image]
    if len(np.unique(group[group >= 0])) < 2:
        raise UserError(
            "whiten.method: learned needs groups (images that show the same); this training set "
            "has none; use pca"
        )
    return learned_whitening.fit(
        descriptor, group, views.view_image, total, dim=dim, pairs=p.pairs, shrinkage=p.shrinkage,
        floor=p.floor, seed=p.seed,
    )  # fmt: skip


def blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """`rows` some at a time."""
    return store.blocks(rows, (slice(i, i + BLOCK_ROWS) for i in range(0, len(rows), BLOCK_ROWS)))


def _descriptors(stored: store.Stored, views: TrainSet, features: Path, train: Path) -> np.ndarray:
    descriptor = stored["descriptor"]
    if len(descriptor) != len(views.view_image) or stored.text("train") != views.digest:
        raise UserError(
            f"{features}: not of the views of {train} ({len(descriptor)} rows for "
            f"{len(views.view_image)} views); extract again"
        )
    return descriptor


if __name__ == "__main__":
    console.main(app)
