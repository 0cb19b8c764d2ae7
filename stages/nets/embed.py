"""The one loop "images to descriptors": whoever runs a network over images runs it here.

A caller gives work items (`jobs`) and a function that loads the pixels of one; `descriptors` gives
back each job with its rows, in order. Nothing else knows about devices, memory layout, precision,
loading processes, progress, or what to do with a row that is no number.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core import console, runtime
from ..core.errors import UserError
from .layers import l2n
from .prefetch import ahead

Job = TypeVar("Job")
Network = Callable[[Tensor], Tensor]  # (B, 3, H, W) float32 in [0, 1] to (B, dim)
SHOWN = 3  # images that an error names


def _row(_: Any, row: int) -> str:
    return f"row {row}"


def descriptors(
    net: nn.Module | Network,
    load: Callable[[Job], Any],
    jobs: Sequence[Job],
    *,
    scales: Sequence[float] | None = (1,),
    precision: str = "float32",
    most: int | None = None,
    half: bool = False,
    device: torch.device | None = None,
    processes: int | None = None,
    label: str = "",
    whole: console.Whole | None = None,
    name: Callable[[Job, int], str] = _row,
    advice: str = "compute in float32, or mend the model's weights",
) -> Iterator[tuple[Job, np.ndarray]]:
    """(job, its rows (b, dim)) for each of `jobs`, in order: float32, or float16 where `half`.

    `load(job)`: (b, h, w, 3) uint8 pixels, called in loading processes (`processes`; None: as the
    machine has, 0: in this one). `scales`: see `describe`; None: what `net` gives, as it is.
    `precision`: float32, or float16 or bfloat16 by autocast. `most`: images that go through the
    network at once; None: a whole job. `device`: None: where the weights of `net` are, of one
    without weights the chosen device. `label`: of the progress; none without. `whole`: the stage
    that the images are a part of, counted in images.

    Raises UserError for rows with NaN or infinity; `name(job, row)` is the image that it names.
    """
    place = _device_of(net) if device is None else device
    loaded = ahead(load, jobs, processes)
    if label:
        weigh = _one if whole is None else len
        loaded = console.progress(loaded, total=len(jobs), label=label, whole=whole, weigh=weigh)
    for job, pixels in zip(jobs, loaded, strict=True):
        parts = pixels.split(most or max(len(pixels), 1))
        rows = np.concatenate([_rows(net, p, place, scales, precision, half) for p in parts])
        if wrong := np.flatnonzero(~np.isfinite(rows).all(axis=1)).tolist():
            names = ", ".join(dict.fromkeys(name(job, row) for row in wrong[:SHOWN]))
            raise UserError(
                f"{label or 'descriptors'}: NaN or infinity in the descriptors of {len(wrong)} of "
                f"{len(rows)} images, the first: {names}; {advice}"
            )
        yield job, rows


def _one(batch: Any) -> int:
    """A batch as one step, where a stage does not count images."""
    return 1


def _rows(
    net: Network,
    pixels: Tensor,
    device: torch.device,
    scales: Sequence[float] | None,
    precision: str,
    half: bool,
) -> np.ndarray:
    """Descriptors of one batch; the caller of the loop never runs inside these contexts."""
    lower = precision != "float32"
    with (
        torch.inference_mode(),
        torch.autocast(device.type, getattr(torch, precision), enabled=lower),
    ):
        x = as_input(pixels, device)
        y = net(x).float() if scales is None else describe(net, x, scales)
        return (y.half() if half else y).cpu().numpy()


def describe(net: Network, pixels: Tensor, scales: Sequence[float]) -> Tensor:
    """(B, 3, H, W) float32 in [0, 1] to (B, dim): each scale's L2, their sum, L2.

    Scales below one shrink the image bilinearly, without a further anti-aliasing, as the
    landmark benchmarks do.
    """
    total: Tensor | None = None
    for scale in scales:
        x = pixels if scale == 1 else _resized(pixels, scale)
        y = l2n(net(x).float())
        total = y if total is None else total + y
    assert total is not None
    return l2n(total)


def as_input(pixels: Tensor, device: torch.device) -> Tensor:
    """(B, H, W, 3) uint8 pixels to (B, 3, H, W) float32 in [0, 1] on `device`, channels last."""
    return pixels.to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)


def ready(net: nn.Module, device: torch.device) -> nn.Module:
    """`net` on `device` with channels-last weights, TF32 allowed on a GPU."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    return net.to(device).to(memory_format=torch.channels_last)


def _device_of(net: Any) -> torch.device:
    """Where the weights of `net` are; the chosen device for a network without any."""
    if not isinstance(net, nn.Module):
        return runtime.device()
    first = next(itertools.chain(net.parameters(), net.buffers()), None)
    return runtime.device() if first is None else first.device


def _resized(pixels: Tensor, scale: float) -> Tensor:
    h, w = pixels.shape[-2:]
    shape = (max(round(h * scale), 1), max(round(w * scale), 1))
    return F.interpolate(pixels, shape, mode="bilinear", align_corners=False)
