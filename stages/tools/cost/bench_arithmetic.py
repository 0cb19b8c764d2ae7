"""Ratios of what is arithmetic on stored rows: whitening, fusion, ranking, comparing videos."""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ... import fuse as fusing
from ... import whiten as whitening
from ...core import console, contents, runtime, stopwatch, store
from ...distill.ensemble import Ensemble
from ...distill.prototypes import fit_projection
from ...retrieval import rank as ranking
from ...retrieval import video as comparing
from . import bench_inputs
from .timing import Row, alternate, quietly


def whiten(folder: Path, times: int, *, rows: int = 20000, dim: int = 1280) -> Row:
    """`whiten`'s moments of a stored file against one x.T @ x and reading the rows."""
    file = folder / "features.h5"
    drawn = np.random.default_rng(0).standard_normal((rows, dim), dtype=np.float32)
    x = contents.unit(drawn).astype(np.float16)
    store.write(file, "features", {"descriptor": x})
    p = whitening.Params(
        method="pca", dim=dim, exponent=0.5, floor=1e-5, samples=rows, pairs=1, shrinkage=0, seed=0
    )

    def work() -> None:
        _ = whitening.moments(store.Stored(file, "features")["descriptor"], p).covariance

    def bare() -> None:
        x = np.fromfile(file, np.float16)[-rows * dim :].reshape(rows, dim).astype(np.float64)
        _ = x.T @ x

    return Row(
        "whiten, fit", "reading and x.T @ x in float64", *alternate(work, bare, times), "<= 1.2"
    )


def _ensemble(
    folder: Path, groups: int, images: int, dim: int, **changes: Any
) -> tuple[Any, Ensemble, fusing.Params]:
    """Views, three whitened teachers of them, and parameters of `fuse`."""
    views = bench_inputs.views_of_groups(folder, groups, images)
    names = bench_inputs.whitened(folder, views, 3, dim)
    p = {
        "strategy": "maxmin", "batch": 2, "epochs": 1, "held_out_epochs": 0,
        "prototypes": "ensemble", "frames": ["whitened"], "dim": dim, "samples": 20000, "seed": 0,
    }  # fmt: skip
    return views, Ensemble.read(names, folder, views), fusing.Params(**{**p, **changes})


def fuse(folder: Path, times: int, *, batch: int = 256, steps: int = 100, dim: int = 128) -> Row:
    """`fuse`'s targets of an epoch against gathering the same rows, their products, the bytes.

    An epoch of 100 batches of 256 pairs; one of GLDv2-clean has 316.
    """
    views, ensemble, p = _ensemble(folder, batch * steps, 2, dim, batch=batch)
    out = folder / "targets"

    def work() -> None:
        fusing.write_targets(out, views, ensemble, p)

    with quietly():
        work()
    plan = store.Stored(out / "epoch-0000.h5", "targets")
    pairs = list(zip(np.array(plan["anchor"]), np.array(plan["positive"]), strict=True))

    def bare() -> None:
        with (folder / "bare").open("wb") as f:
            for anchor, positive in pairs:
                for d in ensemble.descriptors:
                    sims = d[anchor].astype(np.float32) @ d[positive].astype(np.float32).T
                f.write(sims.astype(np.float16).tobytes())
            os.fsync(f.fileno())

    return Row(
        "fuse", "gathering the rows, their products, writing", *alternate(work, bare, times),
        "<= 1.3",
    )  # fmt: skip


def prototypes(
    folder: Path, times: int, *, groups: int = 2500, images: int = 40, dim: int = 128
) -> Row:
    """`fuse`'s prototypes against reading the rows once, the product and the norms."""
    views, ensemble, p = _ensemble(folder, groups, images, dim)
    sample = ensemble.concatenated(slice(0, p.samples))
    frame = fit_projection([sample], p.dim)
    label = views.group[views.view_image]
    matrix = np.ascontiguousarray(frame.projection.T.astype(np.float32))

    def work() -> None:
        fusing.group_means(ensemble, frame, label)

    def bare() -> None:
        block = fusing.BLOCK_ROWS
        for start in range(0, len(label), block):
            rows = [d[start : start + block] for d in ensemble.descriptors]
            y = np.concatenate(rows, axis=1, dtype=np.float32) @ matrix
            _ = np.linalg.norm(y, axis=1)

    return Row(
        "fuse, prototypes", "reading the rows, the product, the norms",
        *alternate(work, bare, times), "<= 1.3",
    )  # fmt: skip


def rank(folder: Path, times: int, **sizes: int) -> Row:
    """Exact ranks where most positives come early, as for a trained model."""
    return _rank(folder, times, "ranked by a trained model", True, **sizes)


def rank_random(folder: Path, times: int, **sizes: int) -> Row:
    """Exact ranks of positives that are random rows: nearly every row stands before some."""
    return _rank(folder, times, "random", False, **sizes)


def _rank(
    folder: Path, times: int, what: str, early: bool, *, queries: int = 70, rows: int = 1_001_001,
    dim: int = 512, positives: int = 60, junk: int = 20,
) -> Row:  # fmt: skip
    """Exact ranks, as `evaluate` asks for them, against the blocked product alone."""
    runtime.keep_freed_memory()  # as `evaluate` does
    rng = np.random.default_rng(0)
    database = bench_inputs.unit_rows(folder / "database.f16", rows, dim, rng)
    query = rng.standard_normal((queries, dim), dtype=np.float32)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    if early:
        answers = bench_inputs.positives_by_rank(query, database, positives + junk, rng)
    else:
        answers = rng.integers(rows, size=(queries, positives + junk))
    wanted = [{"easy": a[:positives], "junk": a[positives:]} for a in answers]

    def work() -> None:
        ranking.ranks(query, database, wanted)

    def bare() -> None:
        block = ranking.BLOCK_ROWS
        for start in range(0, rows, block):
            _ = query @ database[start : start + block].astype(np.float32).T

    peak = _peak(work)
    console.say(f"rank: peak {peak:.0f} MB above the descriptors")
    seconds = alternate(work, bare, min(times, 3))
    against = f"the blocked product alone, {queries} x {rows:,} x {dim}"
    return Row(f"evaluate, rank, positives {what}", against, *seconds, "<= 1.2")


def video(
    folder: Path, times: int, *, queries: int = 206, videos: int = 50_000, frames: int = 20,
    dim: int = 512,
) -> Row:  # fmt: skip
    """Chamfer of queries with videos against its products alone.

    Once each, since it takes minutes; the peak of what is allocated is printed.
    """
    query = bench_inputs.clips(folder, queries, frames, dim, seed=0)
    database = bench_inputs.clips(folder, videos, frames, dim, seed=1)
    u = np.asarray(query.rows[:], dtype=np.float32)

    def work() -> None:
        comparing.similarities(query, database, "chamfer")

    def bare() -> None:
        for _, v, _ in database.blocks():
            _ = u @ v.T

    for _ in database.blocks():  # from the disk before the first that is timed
        pass
    peak = 0.0

    def counted() -> None:
        nonlocal peak
        peak = _peak(work)

    seconds = stopwatch.seconds(counted)
    product = stopwatch.seconds(lambda: _peak(bare))  # counted too, for the counting takes time
    held = 4 * queries * videos / 2**20
    console.say(f"video: peak {peak:.0f} MB, {held:.0f} of them the similarities")
    against = f"the products alone, {queries} x {videos} videos of {frames} frames x {dim}"
    return Row("evaluate, chamfer", against, seconds, product, "<= 1.5")


def _peak(work: Callable[[], Any]) -> float:
    """MB that `work` holds at its peak, above what was there before (mapped files are not)."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
