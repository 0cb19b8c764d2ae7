"""Ratios of what runs networks: extraction, a training step, a measurement in between."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ... import extract as extracting
from ... import fuse as fusing
from ... import train as training
from ...core import runtime
from ...distill.ensemble import Ensemble
from ...distill.targets import Prototypes, Targets
from ...images.sets import TrainSet
from . import bench_inputs
from .timing import Row, alternate, quietly


def extract(
    folder: Path, times: int, *, model: str = "resnet50", images: int = 96, views: int = 8,
    px: int = 160, batch: int = 32, source_px: int = 256,
) -> Row:  # fmt: skip
    """`extract`'s loop over stored views of images against the forward on resident tensors."""
    import torch

    from ...images.replay import Replay
    from ...nets import embed
    from ...nets.backbone import Backbone

    device = runtime.device()
    net = embed.ready(Backbone(model).eval(), device)
    stored = bench_inputs.images(folder, images, views, source_px)
    p = extracting.Params(batch=batch, precision="float32")
    first = Replay(stored, px).rows(range(batch))
    resident = embed.as_input(torch.from_numpy(first), device)

    def work() -> None:
        extracting.describe_views(net, stored, (0, images), px, p, "")

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(images * views // batch):
                y = net(resident)
            y.cpu()

    return Row("extract", f"{model} on tensors in memory", *alternate(work, bare, times), "<= 1.03")


def student_loop(folder: Path, model: str, batch: int, px: int) -> tuple[Any, Any]:
    """`train`'s loop on generated images, and its first batch."""
    import torch

    views = bench_inputs.images(folder, 2 * batch, 8, 256)
    student = training.first_student(model, _params(px), dim=128)
    loop = _loop(folder, views, student, batch, px)
    return loop, torch.from_numpy(loop._pixels(0))


def loop_in_memory(folder: Path, student: Any, batch: int, px: int) -> tuple[Any, Any]:
    """`train`'s loop for a student, to be shown one batch of random pixels: no image is read."""
    import torch

    views = bench_inputs.views_of_groups(folder, batch, 2)
    pixels = torch.randint(0, 256, (2 * batch, px, px, 3), dtype=torch.uint8)
    return _loop(folder, views, student, batch, px), pixels


def _loop(folder: Path, views: TrainSet, student: Any, batch: int, px: int) -> Any:
    """A loop with targets and prototypes that `fuse` wrote, of two teachers of 16 dimensions."""
    from ...distill.training import Loop

    names = bench_inputs.whitened(folder, views, 2, 16)
    ensemble = Ensemble.read(names, folder, views)
    fuse = fusing.Params(
        strategy="maxmin", batch=batch, epochs=2, held_out_epochs=0, prototypes="ensemble",
        frames=["whitened"], dim=16, samples=1000, seed=0,
    )  # fmt: skip
    file = folder / "prototypes.h5"
    with quietly():
        fusing.write_targets(folder, views, ensemble, fuse)
        fusing.write_prototypes(file, folder / "fused.h5", views, ensemble, fuse)
    targets = Targets.read(folder, views)
    prototypes = Prototypes.read(file, targets, views)
    p = _params(px)
    return Loop(student, training.plan_of(p), p.objective(), views, targets, prototypes, None)


def _params(px: int) -> training.Params:
    """Parameters of `train`: the paper's loss, more epochs than any row takes steps."""
    return training.Params(
        loss="relation", temperature=0.05, head="random", epochs=500, lr=1e-3, final_lr=1e-6,
        backbone_lr_scale=1, weight_decay=1e-6, view_px=px, image_px=px, pool="auto", gem_p=3,
        weights="random", without_weights="random", amp="auto", validate_every=0, patience=0,
        average="none", compatible_with=None, seed=0,
    )  # fmt: skip


def learn(loop: Any, batches: Iterable[Any]) -> None:
    """A step on each batch, done when the device is."""
    import torch

    for pixels in batches:
        loop._learn(pixels)
    if loop.device.type == "cuda":
        torch.cuda.synchronize(loop.device)


def train(
    folder: Path, times: int, *, model: str = "resnet18", batch: int = 32, px: int = 96,
    steps: int = 5,
) -> Row:  # fmt: skip
    """Steps with images loaded, cropped and replayed against steps on one resident batch."""
    loop, resident = student_loop(folder, model, batch, px)
    batches = loop._batches()
    learn(loop, islice(batches, 4))  # the loading processes start and decode
    seconds, bare = alternate(
        lambda: learn(loop, islice(batches, steps)),
        lambda: learn(loop, [resident] * steps),
        min(times, 5),
    )
    return Row("train, a step", "one batch in memory", seconds / steps, bare / steps, "<= 1.03")


def online(
    folder: Path, times: int, *, model: str = "resnet18", teacher: str = "resnet101",
    batch: int = 32, px: int = 96,
) -> Row:  # fmt: skip
    """A whole step on stored targets against the same step with the teachers in it.

    Two ResNet-101 teach a ResNet-18 at equal resolution. In multiplications the online step costs
    (2 x 7.8 + 3 x 1.8) / (3 x 1.8) = 3.9 times as much.
    """
    import torch

    from ...nets import embed
    from ...nets.backbone import Backbone

    loop, resident = student_loop(folder, model, batch, px)
    batches = loop._batches()
    device = runtime.device()
    teachers = [embed.ready(Backbone(teacher).eval(), device) for _ in range(2)]
    views = embed.as_input(resident, device)

    def live() -> None:
        with torch.inference_mode():
            for net in teachers:
                net(views).cpu()
        learn(loop, islice(batches, 1))

    learn(loop, islice(batches, 4))
    seconds, bare = alternate(lambda: learn(loop, islice(batches, 1)), live, min(times, 3))
    return Row("train, a step", f"the same with two live {teacher}", seconds, bare, "<= 0.30")


def validation(
    folder: Path, times: int, *, model: str = "resnet18", batch: int = 32, px: int = 96,
    images: int = 100,
) -> Row:  # fmt: skip
    """A measurement on the validation groups, of a crop and a whole image each, against the 50
    steps between two of them."""
    from ...retrieval.validation import Probe

    loop, resident = student_loop(folder, model, batch, px)
    half = images // 2
    pixels = [resident[i % len(resident)].numpy() for i in range(half)] * 2
    row = np.arange(2 * half)
    wanted = [{"positive": np.array([(i + half) % len(row)]), "junk": np.array([i])} for i in row]
    probe = Probe(pixels, row, wanted, crops=pixels)
    seconds, step = alternate(
        lambda: probe(loop.student), lambda: learn(loop, [resident]), min(times, 3)
    )
    return Row("train, validation", "the 50 steps between two", seconds, 50 * step, "<= 0.05")
