"""Make every teacher speak the same language.

    python -m stages.whiten TEACHER data/prepared/train.h5 data/features/TEACHER.h5 \\
        models/whitening/TEACHER.h5 data/whitened/TEACHER.h5

Fits whitening on a seeded sample of one teacher's descriptors, in a stream, in float64, and applies
it to all of them. What is `auto` is chosen by retrieval among training groups that were left out of
the fit (`distill/whitening_choice.py`), and never ends below no whitening. No network is loaded.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from .core import console, files, params, store
from .core.errors import UserError
from .distill import learned_whitening, whitening, whitening_choice
from .distill.whitening import Whitening
from .distill.whitening_choice import Candidate, Choice, Knobs
from .images.sets import TrainSet

app = console.app()
BLOCK_ROWS = 8192
SAMPLED_ROWS = 2048  # scattered rows at a time: each brings its neighbours' pages into memory
ENOUGH = 20  # rows per dimension below which a covariance is a guess
Auto = Literal["auto"]
Share = Annotated[float, Field(ge=0, le=1)]


class Params(params.Section):
    """Section `whiten` of params.yaml."""

    method: Literal["auto", "pca", "learned", "none"]
    dim: Auto | int | dict[str, Auto | int]
    exponent: Auto | Share
    floor: float = Field(gt=0, lt=1)
    samples: int = Field(ge=2)
    pairs: int = Field(ge=1)
    shrinkage: Auto | Share
    seed: int = Field(ge=0)

    def dim_of(self, teacher: str) -> int | Auto:
        """Output dimensions for `teacher`, or auto."""
        dim = self.dim.get(teacher) if isinstance(self.dim, dict) else self.dim
        if dim is None or (dim != "auto" and dim < 1):
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
    stored = store.Stored(features, "features").of_teacher(teacher)
    descriptor = _descriptors(stored, views, features, train)
    knobs = knobs_of(p, teacher, descriptor.shape[1], params_file)
    total = None if p.method == "none" else checked_moments(descriptor, p, features)
    choice = choose(descriptor, views, knobs, p.seed)
    taken = choice.taken
    fitted = fit(descriptor, views, p, taken, total)
    for line in said(teacher, choice, fitted):
        console.say(line)
    whitening.write(
        out_whitening, fitted, exponent=taken.exponent if p.exponent == "auto" else p.exponent,
        floor=p.floor, samples=p.samples, method=taken.method, shrinkage=taken.shrinkage,
        features=stored.digest, train=views.digest, teacher=teacher, **tried(choice),
    )  # fmt: skip
    with store.create(
        out_whitened, "whitened", teacher=teacher, features=stored.digest, train=views.digest,
        parameters=files.digest_of(p.model_dump()),
    ) as writer:  # fmt: skip
        writer.dataset("descriptor", (len(descriptor), taken.dim), np.float16)
        for rows in console.progress(blocks(descriptor), label=f"{teacher}: whitening"):
            writer.append("descriptor", whitening.apply(rows, fitted))


def knobs_of(p: Params, teacher: str, own: int, where: Path) -> Knobs:
    """What is asked of a teacher of `own` dimensions. Raises UserError for more of them."""
    dim = own if p.method == "none" else p.dim_of(teacher)
    if dim != "auto" and dim > own:
        raise UserError(
            f"{where}: whiten.dim is {dim} but teacher {teacher} has {own} dimensions; "
            f"set whiten.dim to at most {own} (a map teacher: dim serves different widths)"
        )
    return Knobs(p.method, dim, p.exponent, p.shrinkage, p.floor)


def choose(descriptor: np.ndarray, views: TrainSet, knobs: Knobs, seed: int) -> Choice:
    """The whitening to fit: the one that the knobs say or, of those they leave, the best."""
    if not knobs.free:
        return Choice(whitening_choice.unmeasured(knobs, descriptor.shape[1]), {}, "")
    group = views.group[views.view_image]
    if knobs.method == "learned":
        _check_groups(group)
    return whitening_choice.choose(descriptor, group, views.view_image, knobs, seed=seed)


def said(teacher: str, choice: Choice, fitted: Whitening) -> list[str]:
    """The lines that a person reads: what is used and, where it was chosen, against what."""
    own, taken = len(fitted.mean), choice.taken
    lines = [f"{teacher}: {own} to {taken.dim} dimensions, "
             f"{100 * fitted.energy_kept:.1f} % of the energy kept"]  # fmt: skip
    if taken.method == "learned":
        lines[0] += f", shrinkage {taken.shrinkage:g}"
    if not choice.scores:
        return lines
    lines.append(f"{teacher}: {taken} is best of {len(choice.scores)} on {choice.by} left out, "
                 "mAP of stored views:")  # fmt: skip
    return lines + [f"  {score:5.1f}  {c}" for c, score in whitening_choice.leaders(choice)]


def tried(choice: Choice) -> dict[str, str]:
    """Attributes that hold every candidate's score, where there was a choice."""
    if not choice.scores:
        return {}
    rows = [
        [c.method, c.dim, c.exponent, c.shrinkage, round(score, 4)]
        for c, score in sorted(choice.scores.items())
    ]
    return {"tried": json.dumps(rows), "chosen_by": choice.by}


def fit(
    descriptor: np.ndarray,
    views: TrainSet,
    p: Params,
    taken: Candidate,
    total: whitening.Moments | None,
) -> Whitening:
    """The whitening `taken` of (m, d) stored descriptors whose moments are `total`."""
    d = descriptor.shape[1]
    if taken.method == "none" or total is None:
        return Whitening(np.zeros(d), np.eye(d), np.ones(d), 1.0)
    if taken.method == "pca":
        return whitening.fit_pca(
            total.mean, total.covariance, dim=taken.dim, exponent=taken.exponent, floor=p.floor
        )
    group = views.group[views.view_image]
    _check_groups(group)
    within = learned_whitening.within(
        descriptor, group, views.view_image, p.pairs, np.random.default_rng(p.seed)
    )
    return whitening.fit_learned(
        total.mean, total.covariance, within, dim=taken.dim, shrinkage=taken.shrinkage,
        floor=p.floor,
    )  # fmt: skip


def checked_moments(descriptor: np.ndarray, p: Params, where: Path) -> whitening.Moments:
    """Moments of (m, d) stored descriptors. Raises UserError where they say nothing."""
    m, d = descriptor.shape
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
    return total


def moments(descriptor: np.ndarray, p: Params) -> whitening.Moments:
    """Mean and covariance of a seeded sample of (m, d) stored descriptors, read in blocks."""
    m, d = descriptor.shape
    if p.samples >= m:
        return whitening.moments(blocks(descriptor), d)
    sample = np.sort(np.random.default_rng(p.seed).choice(m, p.samples, replace=False))
    pieces = (sample[i : i + SAMPLED_ROWS] for i in range(0, p.samples, SAMPLED_ROWS))
    return whitening.moments(store.blocks(descriptor, pieces), d)


def _check_groups(group: np.ndarray) -> None:
    if len(np.unique(group[group >= 0])) < 2:
        raise UserError(
            "whiten.method: learned needs groups (images that show the same); this training set "
            "has none; use pca"
        )


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
