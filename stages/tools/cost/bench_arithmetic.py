"""Ratios of what is arithmetic on stored rows: whitening, fusion, ranking, comparing videos."""

import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...core import console, runtime, store
from .timing import Row, alternate

VIDEOS = 50_000  # of the database that the row `video` compares with


def whiten(folder: Path, times: int) -> Row:
    """Streaming moments and eigenvectors' input against one x.T @ x and reading the rows."""
    from ...distill import whitening

    n, d, block = 20000, 1280, 8192
    rng = np.random.default_rng(0)
    file = folder / "features.h5"
    x = rng.standard_normal((n, d)).astype(np.float16)
    store.write(file, "features", {"descriptor": x})

    def work() -> None:
        rows = store.Stored(file, "features")["descriptor"]
        _ = whitening.moments((rows[i : i + block] for i in range(0, n, block)), d).covariance

    def bare() -> None:
        rows = np.fromfile(file, np.float16)[-n * d :].reshape(n, d).astype(np.float64)
        _ = rows.T @ rows

    return Row(
        "whiten, fit", "reading and x.T @ x in float64", *alternate(work, bare, times), "<= 1.3"
    )


def ensemble(teachers: int = 3, rows: int = 20000, dim: int = 128) -> list[np.ndarray]:
    """Whitened rows of some teachers."""
    rng = np.random.default_rng(0)
    draws = (rng.standard_normal((rows, dim)).astype(np.float32) for _ in range(teachers))
    return [(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16) for x in draws]


def fuse(folder: Path, times: int) -> Row:
    """Plan, gather, products, strategy, shards against the bare products and writing the bytes.

    An epoch of 100 batches of 256 pairs; one of GLDv2-clean has 316.
    """
    from ...distill import batches, fusion

    batch, steps = 256, 100
    whitened = ensemble(rows=2 * batch * steps)
    group = np.repeat(np.arange(batch * steps), 2)
    spans = np.arange(len(group) + 1)
    loaded = [w.astype(np.float32) for w in whitened]
    sims = np.empty((len(whitened), batch, batch), np.float32)

    def work() -> None:
        rng = np.random.default_rng(0)
        ((anchor, positive),) = batches.plan(group, spans, batch=batch, epochs=1, seed=0)
        with store.create(folder / "epoch.h5", "targets") as writer:
            writer.dataset("target", (steps, batch, batch), np.float16)
            for a, p in zip(anchor, positive, strict=True):
                for out, w in zip(sims, whitened, strict=True):
                    np.matmul(w[a].astype(np.float32), w[p].astype(np.float32).T, out=out)
                writer.append("target", fusion.maxmin(sims, rng)[None].astype(np.float16))

    def bare() -> None:
        with (folder / "bare").open("wb") as f:
            for s in range(steps):
                rows = slice(s * batch, (s + 1) * batch)
                for out, w in zip(sims, loaded, strict=True):
                    np.matmul(w[rows], w[rows].T, out=out)
                f.write(sims[0].astype(np.float16).tobytes())
            os.fsync(f.fileno())

    return Row("fuse", "bare products and writing", *alternate(work, bare, times), "<= 1.5")


def prototypes(folder: Path, times: int) -> Row:
    """Fused embeddings and their means against reading the whitened rows once."""
    from ...distill import prototypes as proto
    from ...distill import whitening

    whitened, block = ensemble(rows=100_000), 16384
    files = [folder / f"whitened{i}.h5" for i in range(len(whitened))]
    for file, rows in zip(files, whitened, strict=True):
        store.write(file, "whitened", {"descriptor": rows})
    label = (np.arange(100_000) // 40).astype(np.int32)
    sample = proto.concatenate([w[:20000] for w in whitened])
    matrix = proto.fit_projection([sample], 128).projection.astype(np.float32).T
    maps = [store.Stored(f, "whitened")["descriptor"] for f in files]

    def work() -> None:
        means = proto.Means(2500, 128)
        for i in range(0, len(label), block):
            rows = proto.concatenate([m[i : i + block] for m in maps])
            means.add(label[i : i + block], whitening.l2n(rows @ matrix))
        means.result()

    def bare() -> None:
        for file in files:
            store.Stored(file, "whitened")

    return Row(
        "fuse, prototypes", "opening and checking the rows once", *alternate(work, bare, times),
        "<= 1.3",
    )  # fmt: skip


def rank(folder: Path, times: int) -> Row:
    """Exact ranks of 70 queries in 1,001,001 rows against the blocked product alone."""
    from ...retrieval import rank as ranking

    runtime.keep_freed_memory()  # as `evaluate` does
    n, d, q = 1_001_001, 512, 70
    rng = np.random.default_rng(0)
    file = folder / "database.f16"
    with file.open("wb") as f:
        for start in range(0, n, 50_000):
            rows = rng.standard_normal((min(50_000, n - start), d), dtype=np.float32)
            f.write(
                (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16).tobytes()
            )
    database = np.memmap(file, np.float16, "r", shape=(n, d))
    query = rng.standard_normal((q, d), dtype=np.float32)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    wanted = [{"easy": rng.integers(n, size=60), "junk": rng.integers(n, size=20)} for _ in query]

    def bare() -> None:
        block = ranking.BLOCK_ROWS
        for start in range(0, n, block):
            _ = query @ database[start : start + block].astype(np.float32).T

    peak = _peak(lambda: ranking.ranks(query, database, wanted))
    console.say(f"rank: peak {peak:.0f} MB above the descriptors")
    seconds, product = alternate(
        lambda: ranking.ranks(query, database, wanted), bare, min(times, 3)
    )
    return Row(
        "evaluate, rank",
        "the blocked product alone, 70 x 1,001,001 x 512",
        seconds,
        product,
        "<= 1.3",
    )


def video(folder: Path, times: int) -> Row:
    """Chamfer of 206 queries with 50,000 videos of 20 frames against its products alone.

    Once each, since it takes minutes; the peak of what is allocated is told.
    """
    from ...retrieval import video as comparing

    rng, d, each = np.random.default_rng(0), 512, 20
    query, database = (_random_clips(folder, rng, n, each, d) for n in (206, VIDEOS))
    u = query.rows(*query.parts)

    def bare() -> None:
        for _, v, _ in database.blocks():
            _ = u @ v.T

    def work() -> None:
        comparing.similarities(query, database, "chamfer")

    for _ in database.blocks():  # from the disk before the first that is timed
        pass
    start = time.perf_counter()
    peak = _peak(work)
    middle = time.perf_counter()
    _peak(bare)  # counted too, for the counting takes time
    seconds, product = middle - start, time.perf_counter() - middle
    held = 4 * 206 * VIDEOS / 2**20
    console.say(f"video: peak {peak:.0f} MB, {held:.0f} of them the similarities")
    against = f"the products alone, 206 x {VIDEOS} videos of {each} frames x {d}"
    return Row("evaluate, chamfer", against, seconds, product, "<= 1.5")


def _peak(work: Callable[[], Any]) -> float:
    """MB that `work` holds at its peak, above what was there before (mapped files are not)."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def _random_clips(folder: Path, rng: np.random.Generator, videos: int, each: int, d: int) -> Any:
    """`videos` videos of `each` random unit frames, float16 in a file that is memory-mapped."""
    from ...retrieval.video import Clips

    file, n = folder / f"clips-{videos}.f16", videos * each
    with file.open("wb") as f:
        for start in range(0, n, 50_000):
            rows = rng.standard_normal((min(50_000, n - start), d), dtype=np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            f.write(rows.astype(np.float16).tobytes())
    frames = np.memmap(file, np.float16, "r", shape=(n, d))
    return Clips((frames,), np.arange(0, n + 1, each))
