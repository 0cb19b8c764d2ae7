"""A short trial of this machine: how long a view, a training step and a product take here."""

import resource
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core import console, runtime, stopwatch, store
from ...core.errors import UserError
from ...core.params import Teacher
from ...images import views as drawing
from ...images.replay import Replay
from ...images.sets import TrainSet
from . import bench_networks

if TYPE_CHECKING:
    from torch import nn

STAND_IN, STAND_IN_DIM = "resnet101", 2048  # for a teacher whose weights are not here
PRODUCT = 1024  # side of the matrices that the arithmetic is timed on


@dataclass
class Trial:
    """Seconds on this machine; what was not tried is None."""

    start: float = 0.0  # of a stage: Python and torch
    view: dict[str, float] = field(default_factory=dict)  # one view through a teacher
    step: float = 0.0  # one training step
    load: float = 0.0  # one view decoded, cut and scaled by one process
    operations: float = 1e9  # float32 multiply-adds a second
    resident: float = 0.0  # bytes: this process at its largest


@dataclass(frozen=True)
class Network:
    """A network to time: its dimensions, parameters, and whether it stands in for another."""

    net: "nn.Module"
    dim: int
    parameters: int
    stand_in: bool


def load_torch() -> float:
    """Import what a stage with a network imports; the seconds it took."""

    def load() -> None:
        import timm  # noqa: F401
        import torch  # noqa: F401

    return stopwatch.seconds(load)


def teacher(settings: Teacher, where: str) -> Network:
    """A teacher to time: random weights do; one whose weights are missing has a stand-in."""
    from ... import teachers
    from ...nets import embed
    from ...nets.backbone import Backbone

    stand_in = False
    if settings.kind == "any_timm":
        settings = settings.model_copy(update={"weights": "random"})
    try:
        net = teachers.load(settings.kind, settings, where)
    except UserError as error:
        if "weights" not in str(error):
            raise
        net, stand_in = Backbone(STAND_IN).eval(), True
    return _network(embed.ready(net, runtime.device()), stand_in)


def ready_dim(settings: Teacher) -> int | None:
    """Dimensions of a teacher of ready descriptors, which has nothing to time; None: a network."""
    from ... import teachers

    if teachers.has_network(settings.kind):
        return None
    first = settings.descriptors[0]  # type: ignore[attr-defined]  # of every kind without one
    return int(store.Stored(Path(first), "descriptors")["descriptor"].shape[1])


def student(name: str, dim: int, p: dict[str, Any]) -> Network:
    """The student of `params.yaml`, with random weights."""
    from ...distill import student as students
    from ...nets import embed

    made = students.create(
        name, dim=dim, image_px=p["image_px"], pool=p["pool"], gem_p=p["gem_p"], source="random",
        seed=0,
    )  # fmt: skip
    return _network(embed.ready(made, runtime.device()), False)


def _network(net: "nn.Module", stand_in: bool) -> Network:
    import torch

    device = next(net.parameters()).device
    with torch.inference_mode():
        dim = int(net(torch.rand(1, 3, 64, 64, device=device)).shape[1])
    return Network(net, dim, sum(p.numel() for p in net.parameters()), stand_in)


def view_seconds(net: "nn.Module", px: int, batch: int, seconds: float) -> float:
    """One view of px x px through `net`, by the loop and in the batches of `extract`."""
    from ...nets import embed

    batch = min(batch, 64) if next(net.parameters()).device.type == "cpu" else batch
    pixels = np.random.default_rng(0).integers(0, 256, (batch, px, px, 3), np.uint8)

    def work() -> None:
        list(embed.descriptors(net, lambda _: pixels, [0], half=True, processes=0))

    return stopwatch.repeated(work, seconds) / batch


def step_seconds(net: "nn.Module", px: int, batch: int, seconds: float) -> float:
    """One step of the training loop on a batch in memory."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        loop, pixels = bench_networks.loop_in_memory(Path(folder), net, batch, px)
        return stopwatch.repeated(lambda: bench_networks.learn(loop, [pixels]), seconds)


def load_seconds(files: list[Path], views: float, px: int, seconds: float) -> float:
    """One view from a file, an image decoded once for its `views`; 0 where there is none."""
    each = max(round(views), 1)
    names = [str(file.absolute()) for file in files]
    view_image, view = drawing.draw_all(0, names, np.full(len(names), each))
    stored = TrainSet(
        Path(), np.array(names), np.array(names), np.full(len(names), -1), view_image, view,
        drawing.COLUMNS, "",
    )  # fmt: skip
    replay, spent, done = Replay(stored, px), 0.0, 0
    for image in range(len(names)):
        spent += stopwatch.seconds(partial(replay.images, (image, image + 1)))
        done += each
        if spent > seconds:
            break
    return spent / max(done, 1)


def operations(seconds: float) -> float:
    """Float32 multiply-adds a second of a matrix product."""
    a = np.random.default_rng(0).standard_normal((PRODUCT, PRODUCT)).astype(np.float32)
    return PRODUCT**3 / stopwatch.repeated(lambda: np.matmul(a, a), seconds)


def resident() -> float:
    """Bytes of memory that this process had at its largest (of the GPU where it computes)."""
    device = runtime.device()
    if device.type == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def note(what: str) -> None:
    """Say what is tried next."""
    console.say(f"timing: {what}")
