"""A short trial of this machine: how long a view, a training step and a product take here."""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core import console, runtime, store
from ...core.errors import UserError
from ...images import reading, rendering

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
    start = time.perf_counter()
    import timm  # noqa: F401
    import torch  # noqa: F401

    return time.perf_counter() - start


def teacher(settings: dict[str, Any], where: str) -> Network:
    """A teacher to time: random weights do; one whose weights are missing has a stand-in."""
    from ... import teachers
    from ...nets import layers
    from ...nets.backbone import Backbone

    values, stand_in = dict(settings), False
    if values["kind"] == "any_timm":
        values["weights"] = "random"
    try:
        net = teachers.load(values["kind"], values, where)
    except UserError as error:
        if "weights" not in str(error):
            raise
        net, stand_in = Backbone(STAND_IN).eval(), True
    return _network(layers.ready(net, runtime.device()), stand_in)


def ready_dim(settings: dict[str, Any]) -> int | None:
    """Dimensions of a teacher of ready descriptors, which has nothing to time; None: a network."""
    from ... import teachers

    if teachers.has_network(settings["kind"]):
        return None
    first = settings["descriptors"][0]
    return int(store.Stored(Path(first), "descriptors")["descriptor"].shape[1])


def student(name: str, dim: int, p: dict[str, Any]) -> Network:
    """The student of `params.yaml`, with random weights."""
    from ...distill import student as students
    from ...nets import layers

    made = students.create(
        name, dim=dim, image_px=p["image_px"], pool=p["pool"], gem_p=p["gem_p"], source="random",
        seed=0,
    )  # fmt: skip
    return _network(layers.ready(made, runtime.device()), False)


def _network(net: "nn.Module", stand_in: bool) -> Network:
    import torch

    device = next(net.parameters()).device
    with torch.inference_mode():
        dim = int(net(torch.rand(1, 3, 64, 64, device=device)).shape[1])
    return Network(net, dim, sum(p.numel() for p in net.parameters()), stand_in)


def view_seconds(net: "nn.Module", px: int, batch: int, seconds: float) -> float:
    """One view of px x px through `net`, in batches as `extract` makes them."""
    import torch

    device = next(net.parameters()).device
    batch = min(batch, 64) if device.type == "cpu" else batch
    x = torch.rand(batch, 3, px, px, device=device)

    def work() -> None:
        with torch.inference_mode():
            net(x).cpu()

    return repeated(work, seconds) / batch


def step_seconds(net: "nn.Module", px: int, batch: int, seconds: float) -> float:
    """One training step: anchors and positives forward, the loss, backward, Adam."""
    import torch

    from ...distill import loss

    device = next(net.parameters()).device
    x = torch.rand(batch, 3, px, px, device=device)
    target = torch.rand(batch, batch, device=device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-6)
    net.train()

    def work() -> None:
        optimizer.zero_grad()
        loss.relation(net(x) @ net(x).T, target, 0.05).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return repeated(work, seconds)


def load_seconds(files: list[Path], views: float, px: int, seconds: float) -> float:
    """One view from a file, an image decoded once for its `views`; 0 where there is none."""
    view = {"x": 0.1, "y": 0.1, "width": 0.8, "height": 0.8, "flip": 0.0}
    end, done, start = time.perf_counter() + seconds, 0, time.perf_counter()
    for file in files:
        image = reading.read(file)
        for _ in range(max(round(views), 1)):
            rendering.render(image, view, px)
            done += 1
        if time.perf_counter() > end:
            break
    return (time.perf_counter() - start) / max(done, 1)


def operations(seconds: float) -> float:
    """Float32 multiply-adds a second of a matrix product."""
    a = np.random.default_rng(0).standard_normal((PRODUCT, PRODUCT)).astype(np.float32)
    return PRODUCT**3 / repeated(lambda: np.matmul(a, a), seconds)


def repeated(work: Callable[[], Any], seconds: float) -> float:
    """Median seconds of `work`, after one warm-up, for about `seconds` and three times at least."""
    work()
    spent: list[float] = []
    while len(spent) < 3 or (sum(spent) < seconds and len(spent) < 1000):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
        if sum(spent) > 3 * seconds:
            break  # a slow machine: one or two runs must do
    return float(np.median(spent))


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
