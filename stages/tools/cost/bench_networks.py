"""Ratios of what runs networks: extraction, a training step, a measurement in between."""

from pathlib import Path
from typing import Any

import numpy as np

from ...core import runtime, store
from ...distill.targets import Targets
from ...images.sets import TrainSet
from .timing import Row, alternate


def images(folder: Path, count: int = 96, views: int = 8, px: int = 256) -> TrainSet:
    """A train set of textured JPEGs with stored views, as `prepare` writes them."""
    from PIL import Image

    from ...images import views as drawing

    root = folder / "images"
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

    from ...images.replay import Replay
    from ...nets import layers
    from ...nets.backbone import Backbone
    from ...nets.embed import describe
    from ...nets.prefetch import ahead

    device = runtime.device()
    net = layers.ready(Backbone("resnet50").eval(), device)
    views, px, batch = images(folder), 160, 4
    replay = Replay(views, px)
    jobs = [(i, i + batch) for i in range(0, len(views.image_id), batch)]
    resident = layers.as_input(torch.from_numpy(replay.images(jobs[0])), device)

    def work() -> None:
        with torch.inference_mode():
            for pixels in ahead(replay.images, jobs):
                describe(net, layers.as_input(pixels, device), [1]).half().cpu()

    def bare() -> None:
        with torch.inference_mode():
            for _ in jobs:
                y = net(resident)
            y.cpu()

    return Row(
        "extract", "ResNet-50 on tensors in memory", *alternate(work, bare, times), "<= 1.05"
    )


def student_loop(folder: Path) -> tuple[Any, Any]:
    """A training loop on generated images, and its first batch."""
    import torch

    from ...distill import batches
    from ...distill.losses import Objective
    from ...distill.student import Student
    from ...distill.targets import Prototypes
    from ...distill.training import Loop, Plan
    from ...nets import layers

    views, batch, epochs = images(folder), 32, 60
    plan = batches.plan(views.group, views.spans(), batch=batch, epochs=epochs, seed=0)
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
    objective = Objective({"relation": 1.0}, 0.05)
    loop = Loop(student, settings, objective, views, targets, none, None)
    return loop, torch.from_numpy(loop._pixels(0))


def train(folder: Path, times: int) -> Row:
    """Steps with images loaded, cropped and replayed against steps on one resident batch."""
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


def online(folder: Path, times: int) -> Row:
    """A whole step on stored targets against the same step with the teachers in it.

    Two ResNet-101 teach a ResNet-18 at equal resolution. In multiplications the online step costs
    (2 x 7.8 + 3 x 1.8) / (3 x 1.8) = 3.9 times as much.
    """
    import torch

    from ...nets import layers
    from ...nets.backbone import Backbone

    loop, resident = student_loop(folder)
    batches = loop._batches()
    device = runtime.device()
    teachers = [layers.ready(Backbone("resnet101").eval(), device) for _ in range(2)]
    views = layers.as_input(resident, device)

    def live() -> None:
        with torch.inference_mode():
            for teacher in teachers:
                teacher(views).cpu()
        loop._learn(next(batches))

    for _ in range(4):
        loop._learn(next(batches))
    seconds, bare = alternate(lambda: loop._learn(next(batches)), live, min(times, 3))
    return Row("train, a step", "the same with two live ResNet-101", seconds, bare, "<= 0.28")


def validation(folder: Path, times: int) -> Row:
    """A measurement on 100 images set aside against the 50 steps between two of them."""
    from ...retrieval.validation import Probe

    loop, resident = student_loop(folder)
    pixels = [np.asarray(p) for p in resident[:50].numpy()] * 2
    wanted = [{"positive": np.array([(i + 50) % 100]), "junk": np.array([i])} for i in range(100)]
    probe = Probe(pixels, np.arange(100), wanted)
    seconds, step = alternate(
        lambda: probe(loop.student), lambda: loop._learn(resident), min(times, 3)
    )
    return Row("train, validation", "the 50 steps between two", seconds, 50 * step, "<= 0.05")
