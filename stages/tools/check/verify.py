"""Prove that stored descriptors are what the live teachers give now.

    whiten-mtd verify

Runs each teacher on a seeded sample of its stored views and compares: the smallest cosine, and the
largest change of a whitened similarity. Whitening amplifies error, so the second is the one to
trust. A flip that is dropped, channels that are swapped or a box that is shifted show at once.
With `--deep`, every stored file under data/ and models/ is first read and hashed again, also where
nothing on disk says that it changed.
"""

from pathlib import Path

import numpy as np
import typer

from ...core import console, hdf5, params, seen_files, store
from ...core.errors import UserError
from ...distill import whitening
from ...images.sets import TrainSet

app = console.app()
BATCH = 32  # views through the network at once
TOLERANCE = 2e-3  # of a whitened similarity: what float16 storage leaves room for


@app.command()
def main(
    teacher: list[str] = typer.Option([], help="Only these; all teachers by default."),
    deep: bool = typer.Option(False, help="First hash every stored file again."),
    views: int = typer.Option(48, min=2, help="Stored views to run again."),
    seed: int = typer.Option(0, help="Seed of the sample."),
    train: Path = typer.Option(Path("data/prepared/train.h5")),
    features: Path = typer.Option(Path("data/features")),
    whitenings: Path = typer.Option(Path("models/whitening")),
    params_file: Path = params.OPTION,
) -> None:
    """Compare stored rows with the live teachers; exit 2 where they differ."""
    given = params.read(params_file)
    if deep:
        check_all(given.path.parent)
    stored_views = TrainSet.read(train)
    failed = []
    for name in teacher or given.kinds:
        if not is_network(given, name):
            console.result(f"{name}: ready descriptors, no network to run")
            continue
        file = store.Stored(features / f"{name}.h5", "features").of_teacher(name)
        rows = sample(len(stored_views.view_image), views, seed)
        live = run_live(given, name, stored_views, rows)
        kept = file["descriptor"]
        if kept.shape != (len(stored_views.view_image), live.shape[1]):
            raise UserError(f"{file.path}: not of the views of {train}; extract again")
        fitted = whitening.read(whitenings / f"{name}.h5")
        cosine, change = compare(live, kept[rows].astype(np.float32), fitted)
        good = change <= TOLERANCE
        console.result(
            f"{name}: smallest cosine {cosine:.6f}, largest change of a whitened similarity "
            f"{change:.1e} ({'as stored' if good else f'over {TOLERANCE:g}'})"
        )
        failed += [] if good else [name]
    if failed:
        raise UserError(
            f"{', '.join(failed)}: the stored rows are not what the live teacher gives; extract "
            f"again: dvc repro --force {' '.join(f'extract@{n}' for n in failed)}"
        )


def check_all(project: Path) -> None:
    """Hash every stored file of a project. Raises UserError with a line on each damaged one."""
    seen_files.forget_checked()
    paths = sorted(p for folder in ("data", "models") for p in (project / folder).rglob("*.h5"))
    damaged: list[str] = []
    for path in console.progress(paths, label="hashing stored files"):
        try:
            store.Stored(path, hdf5.kind_of(path) or "descriptors")
        except UserError as error:
            damaged += error.lines
    if damaged:
        raise UserError(*damaged)
    console.result(f"{len(paths)} stored files: what they hold is what their digests say")


def sample(count: int, views: int, seed: int) -> np.ndarray:
    """Seeded rows of stored views, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:views])


def is_network(given: params.Parameters, name: str) -> bool:
    """Whether teacher `name` can be run at all."""
    from ... import teachers

    return teachers.has_network(given.kind(name))


def run_live(given: params.Parameters, name: str, views: TrainSet, rows: np.ndarray) -> np.ndarray:
    """(v, dim) float32 unit descriptors of the live teacher, in float32."""
    from ... import teachers
    from ...core import runtime
    from ...images.replay import Replay
    from ...nets import embed

    settings = given.teacher(name)
    net = teachers.load(settings.kind, settings, given.place(f"teachers.{name}"))
    net = embed.ready(net, runtime.device())
    replay = Replay(views, settings.image_px)
    described = embed.descriptors(
        net, replay.rows, [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)], label=name,
        name=lambda job, row: str(views.file(*views.source(int(job[row])))),
    )  # fmt: skip
    return np.concatenate([part for _, part in described])


def compare(live: np.ndarray, kept: np.ndarray, fitted: whitening.Whitening) -> tuple[float, float]:
    """(smallest cosine of a row, largest change of a whitened similarity) of (v, d) unit rows.

    The similarities are those of every live row with every kept one, against kept with kept.
    """
    cosine = float((live * whitening.l2n(kept)).sum(1).min())
    now, then = whitening.apply(live, fitted), whitening.apply(kept, fitted)
    return cosine, float(np.abs(now @ then.T - then @ then.T).max())


if __name__ == "__main__":
    console.main(app)
