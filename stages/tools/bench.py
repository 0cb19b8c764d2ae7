"""Speed as ratios: what a stage costs against the bare work in it, measured in turn in one run.

    whiten-mtd bench

Every row times two things alternately and compares their medians, so that a busy machine slows
both.
"""

import json as json_module
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer

from ..core import console, runtime, store
from ..core.records import Targets, TrainSet

app = console.app()
VIDEOS = 50_000  # of the database that the row `video` compares with


@dataclass(frozen=True)
class Row:
    """One ratio: medians in seconds of the stage's work and of the bare work in it."""

    what: str
    against: str
    seconds: float
    bare: float
    goal: str

    @property
    def ratio(self) -> float:
        """How many times the bare work it takes."""
        return self.seconds / self.bare


def alternate(work: Callable[[], Any], bare: Callable[[], Any], times: int) -> tuple[float, float]:
    """Medians in seconds of both, run in turn `times` times after one warm-up of each."""
    found: list[tuple[float, float]] = []
    for i in range(times + 1):
        spent = []
        for f in (work, bare):
            start = time.perf_counter()
            f()
            spent.append(time.perf_counter() - start)
        if i:
            found.append((spent[0], spent[1]))
    return statistics.median(f[0] for f in found), statistics.median(f[1] for f in found)


@app.command()
def main(
    only: list[str] = typer.Option([], help="Only these rows (first word)."),
    times: int = typer.Option(5, min=1, help="Runs of each."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Measure every ratio that this machine can and print a table."""
    makers: dict[str, Callable[[Path, int], Row]] = {
        "extract": extract, "whiten": whiten, "fuse": fuse, "prototypes": prototypes,
        "train": train, "validation": validation, "rank": rank,
        "video": video, "no-op": no_op,
    }  # fmt: skip
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, make in makers.items():
            if only and name not in only:
                continue
            rows.append(make(Path(folder), times))
            console.say(f"{name}: {rows[-1].ratio:.2f}")
    about = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {time.strftime('%F')}"
    if json:
        table = [{**asdict(r), "ratio": r.ratio} for r in rows]
        console.result(json_module.dumps({"machine": about, "rows": table}, indent=1))
        return
    console.result(f"{about}\n")
    console.result("| stage | against | seconds | bare | ratio | goal |\n|---|---|---|---|---|---|")
    for r in rows:
        console.result(
            f"| {r.what} | {r.against} | {r.seconds:.3f} | {r.bare:.3f} | {r.ratio:.2f} "
            f"| {r.goal} |"
        )


def pictures(folder: Path, count: int = 96, views: int = 8, px: int = 256) -> TrainSet:
    """A train set of textured JPEGs with stored views, as `prepare` writes them."""
    from PIL import Image

    from ..distill import views as drawing

    root = folder / "pictures"
    root.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    names = [f"{i}.jpg" for i in range(count)]
    for name in names:
        small = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(small).resize((px, px), Image.Resampling.BICUBIC).save(root / name)
    view_image, view = drawing.draw_all(0, names, np.full(count, views))
    group = np.arange(count, dtype=np.int32) // 2
    arrays = {
        "image_id": np.array(names), "path": np.array(names), "group": group,
        "view_image": view_image, "view": view,
    }  # fmt: skip
    about = {"columns": " ".join(drawing.COLUMNS), "root": str(root)}
    store.write(folder / "train.h5", "train", arrays, **about)
    return TrainSet.read(folder / "train.h5")


def extract(folder: Path, times: int) -> Row:
    """The stage's loop (decode, crop, forward, float16) against the forward on resident tensors."""
    import torch

    from ..core import layers
    from ..core.loading import ahead
    from ..core.replay import Replay
    from ..core.trunk import Trunk
    from ..retrieval.multiscale import describe

    device = runtime.device()
    net = layers.ready(Trunk("resnet50").eval(), device)
    views, px, batch = pictures(folder), 160, 4
    replay = Replay(views, px)
    jobs = [(i, i + batch) for i in range(0, len(views.image_id), batch)]
    resident = layers.as_input(torch.from_numpy(replay.pictures(jobs[0])), device)

    def work() -> None:
        with torch.inference_mode():
            for pixels in ahead(replay.pictures, jobs):
                describe(net, layers.as_input(pixels, device), [1]).half().cpu()

    def bare() -> None:
        with torch.inference_mode():
            for _ in jobs:
                y = net(resident)
            y.cpu()

    return Row(
        "extract", "ResNet-50 on tensors in memory", *alternate(work, bare, times), "<= 1.05"
    )


def whiten(folder: Path, times: int) -> Row:
    """Streaming moments and eigenvectors' input against one x.T @ x and reading the rows."""
    from ..distill import whitening

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
    """Plan, gather, products, strategy, shards against the bare products and writing the bytes."""
    from ..distill import fusion, pairs

    whitened, batch, steps = ensemble(), 256, 20
    group = np.repeat(np.arange(batch * steps), 2)
    spans = np.arange(len(group) + 1)
    loaded = [w.astype(np.float32) for w in whitened]

    def work() -> None:
        rng = np.random.default_rng(0)
        ((anchor, positive),) = pairs.plan(group, spans, batch=batch, epochs=1, seed=0)
        with store.create(folder / "epoch.h5", "targets") as writer:
            writer.dataset("target", (steps, batch, batch), np.float16)
            for a, p in zip(anchor, positive, strict=True):
                sims = np.stack(
                    [w[a].astype(np.float32) @ w[p].astype(np.float32).T for w in whitened]
                )
                writer.append("target", fusion.maxmin(sims, rng)[None].astype(np.float16))

    def bare() -> None:
        with (folder / "bare").open("wb") as f:
            for s in range(steps):
                for w in loaded:
                    sims = w[s * batch : (s + 1) * batch] @ w[: batch * 1].T
                f.write(sims.astype(np.float16).tobytes())
            os.fsync(f.fileno())

    return Row("fuse", "bare products and writing", *alternate(work, bare, times), "<= 1.5")


def prototypes(folder: Path, times: int) -> Row:
    """Fused embeddings and their means against reading the whitened rows once."""
    from ..distill import prototypes as proto
    from ..distill import whitening

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


def student_loop(folder: Path) -> tuple[Any, Any]:
    """A training loop on generated pictures, and its first batch."""
    import torch

    from ..core import layers
    from ..core.records import Prototypes
    from ..distill import pairs
    from ..distill.objective import Objective
    from ..distill.student import Student
    from ..distill.training import Loop, Plan

    views, batch, epochs = pictures(folder), 32, 60
    plan = pairs.plan(views.group, views.spans(), batch=batch, epochs=epochs, seed=0)
    about = {"train": views.digest, "whitened": "x", "epochs": epochs, "held_out": 0}
    for e, (anchor, positive) in enumerate(plan):
        target = np.random.default_rng(e).random((len(anchor), batch, batch)).astype(np.float16)
        arrays = {"anchor": anchor, "positive": positive, "target": target}
        store.write(folder / f"epoch-{e:04d}.h5", "targets", arrays, **about)
    targets = Targets.read(folder, views)
    none = Prototypes(np.zeros((1, 128), np.float32), np.zeros(len(views.view_image), np.int32))
    student = Student("resnet18", dim=128, image_px=96)
    layers.ready(student, runtime.device())
    settings = Plan(epochs, 96, 1e-3, 1e-6, 1.0, 1e-6, runtime.device().type == "cuda", 0, 0, 0)
    objective = Objective({"relation": 1.0}, {"relation": 0.05})
    loop = Loop(student, settings, objective, views, targets, none, None)
    return loop, torch.from_numpy(loop._pixels(0))


def train(folder: Path, times: int) -> Row:
    """Steps with pictures loaded, cropped and replayed against steps on one resident batch."""
    loop, resident = student_loop(folder)
    batches = loop._batches()
    for _ in range(4):  # the loading processes start and decode
        loop._learn(next(batches))
    steps = 5
    seconds, bare = alternate(
        lambda: [loop._learn(next(batches)) for _ in range(steps)],
        lambda: [loop._learn(resident) for _ in range(steps)],
        min(times, 5),
    )
    return Row("train, a step", "one batch in memory", seconds / steps, bare / steps, "<= 1.05")


def validation(folder: Path, times: int) -> Row:
    """A measurement on 100 pictures set aside against the 50 steps between two of them."""
    from ..retrieval.validation import Probe

    loop, resident = student_loop(folder)
    pixels = [np.asarray(p) for p in resident[:50].numpy()] * 2
    wanted = [{"positive": np.array([(i + 50) % 100]), "junk": np.array([i])} for i in range(100)]
    probe = Probe(pixels, np.arange(100), wanted)
    seconds, step = alternate(
        lambda: probe(loop.student), lambda: loop._learn(resident), min(times, 3)
    )
    return Row("train, validation", "the 50 steps between two", seconds, 50 * step, "<= 0.05")


def rank(folder: Path, times: int) -> Row:
    """Exact ranks of 70 queries in 1,001,001 rows against the blocked product alone."""
    from ..retrieval import rank as ranking

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
    import tracemalloc

    from ..retrieval import video as comparing

    rng, d, each = np.random.default_rng(0), 512, 20
    query, database = (_random_clips(folder, rng, n, each, d) for n in (206, VIDEOS))
    u = query.rows(*query.parts)

    def bare() -> None:
        for _, v, _ in database.blocks():
            _ = u @ v.T

    spent = []
    tracemalloc.start()
    for work in (lambda: comparing.similarities(query, database, "chamfer"), bare):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
        if len(spent) == 1:
            peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    held = 4 * 206 * VIDEOS / 2**20
    console.say(f"video: peak {peak:.0f} MB, {held:.0f} of them the similarities")
    against = f"the products alone, 206 x {VIDEOS} videos of {each} frames x {d}"
    return Row("evaluate, chamfer", against, spent[0], spent[1], "<= 1.5")


def _random_clips(folder: Path, rng: np.random.Generator, videos: int, each: int, d: int) -> Any:
    """`videos` videos of `each` random unit frames, float16 in a file that is memory-mapped."""
    from ..retrieval.video import Clips

    file, n = folder / f"clips-{videos}.f16", videos * each
    with file.open("wb") as f:
        for start in range(0, n, 50_000):
            rows = rng.standard_normal((min(50_000, n - start), d), dtype=np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            f.write(rows.astype(np.float16).tobytes())
    frames = np.memmap(file, np.float16, "r", shape=(n, d))
    return Clips((frames,), np.arange(0, n + 1, each))


def no_op(folder: Path, times: int) -> Row:
    """`dvc repro` with nothing to do, in seconds (against one second)."""
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        command = [sys.executable, "-m", "dvc", "repro", "--dry"]
        subprocess.run(command, check=True, capture_output=True)
        spent.append(time.perf_counter() - start)
    return Row("dvc repro, nothing to do", "one second", statistics.median(spent), 1.0, "<= 3")


if __name__ == "__main__":
    console.main(app)
