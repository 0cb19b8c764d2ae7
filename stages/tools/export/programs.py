"""Exported programs: written by torch, run, and compared with the network they come from."""

import copy
import io
import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core import console, stopwatch
from ...core.errors import UserError
from ...nets import onnx_file
from ...retrieval.onnx_student import METADATA, Exported

if TYPE_CHECKING:
    from torch import nn

TOLERANCE = 1e-4  # largest difference of a component of a unit descriptor


def write(net: "nn.Module", about: dict[str, Any], folder: Path, names: list[str]) -> list[str]:
    """Write the programs `names` into `folder`. Raises UserError where torch cannot."""
    import torch

    dynamic = torch.export.Dim.DYNAMIC
    # Large enough for feature maps of many pixels: torch takes a size of one for a constant.
    example = torch.rand(2, 3, 256, 192)
    text = json.dumps(about, sort_keys=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            console.say("exporting: minutes where the network is large or the machine busy")
            program = torch.export.export(
                exportable(net), (example,), dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},)
            )
            if "model.pt2" in names:
                # By way of memory: where the disk is full, torch's own writer ends the process.
                kept = io.BytesIO()
                torch.export.save(program, kept, extra_files={f"{METADATA}.json": text})
                _write(folder / "model.pt2", kept.getbuffer())
            if "model.onnx" in names:
                made = torch.onnx.export(
                    program, (), dynamo=True, verbose=False, external_data=False,
                    input_names=["image"], output_names=["descriptor"],
                )  # fmt: skip
                assert made is not None
                made.model.metadata_props[METADATA] = text
                model = made.model_proto.SerializeToString()
                _write(folder / "model.onnx", onnx_file.sealed(model))
        except (RuntimeError, ValueError, torch.onnx.errors.OnnxExporterError) as error:
            line = next((ln for ln in str(error).splitlines() if ln.strip()), type(error).__name__)
            raise UserError(
                f"{about['model']}: torch cannot export it for any batch, height and width "
                f"({line.strip()[:150]}); choose another backbone (`student` in params.yaml)"
            ) from None
    return names


def _write(file: Path, data: bytes | memoryview) -> None:
    """Raise UserError, one line, where the disk does not take it."""
    try:
        with open(file, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise UserError(
            f"{file.name}: {len(data) >> 20} MiB cannot be written to {file.parent.parent.parent} "
            f"({error.strerror}); nothing is left there"
        ) from None


def exportable(net: "nn.Module") -> "nn.Module":
    """A copy whose TensorFlow-like padding is computed in integer arithmetic.

    timm's own (a maximum over a rounded-up quotient) keeps the exporter busy for ever where sizes
    are dynamic. The results are the same: the total is k - s + (-size mod s), where k >= s.
    """
    import torch.nn.functional as F
    from timm.layers import Conv2dSame
    from torch import nn

    class Same(nn.Conv2d):
        def forward(self, x: Any) -> Any:
            sides, sizes = [], []
            for size, k, s, d in zip(
                x.shape[-2:], self.kernel_size, self.stride, self.dilation, strict=True
            ):
                reach = d * (k - 1) + 1
                total = reach - s + (-size) % s if s > 1 and reach >= s else reach - 1
                total = total if reach > 1 else 0  # a 1 x 1 window needs no padding
                sides.append((total // 2, total - total // 2))
                sizes.append((size + s - 1) // s)
            (top, bottom), (left, right) = sides
            y = F.conv2d(
                F.pad(x, (left, right, top, bottom)), self.weight, self.bias, self.stride, 0,
                self.dilation, self.groups,
            )  # fmt: skip
            return y.narrow(-2, 0, sizes[0]).narrow(-1, 0, sizes[1])  # cuts nothing, a hint

    made = copy.deepcopy(net).eval()
    for module in made.modules():
        if isinstance(module, Conv2dSame):
            module.__class__ = Same  # type: ignore[assignment]
    return made


def compare(
    net: "nn.Module", file: Path, about: dict[str, Any], sample: list[np.ndarray]
) -> dict[str, float]:
    """Compare a program with torch: ONNX at all scales of the student, .pt2 at scale one.

    Returns the largest difference, the smallest side of an image that the program takes, and
    milliseconds. Raises UserError where they differ: then nothing is kept.
    """
    if file.suffix == ".pt2":
        about = {**about, "scales": [1.0]}
    run, least = _runner(file, about)
    sample = [x for x in sample if min(x.shape[1:3]) >= least]
    if not sample:
        raise UserError(f"{file.name}: takes images of {least} pixels a side or more; none is")
    differences = [float(np.abs(run(x) - _by_torch(net, x, about)).max()) for x in sample]
    worst = max(differences)
    sizes = sorted({len(x) for x in sample})
    console.result(
        f"{file.name}: largest difference from torch {worst:.1e}, {sum(map(len, sample))} images "
        f"in batches of {sizes[0]} to {sizes[-1]}, {len({x.shape[1:3] for x in sample})} shapes"
        + (f"; takes images of {least} pixels a side or more" if least > 1 else "")
    )
    if not worst <= TOLERANCE:
        raise UserError(f"{file.name}: differs from torch by more than {TOLERANCE:g}; not kept")
    return {"difference": worst, "least_side": least, "ms": _milliseconds(run, sample[0]),
            "torch_ms": _milliseconds(lambda x: _by_torch(net, x, about), sample[0])}  # fmt: skip


def _runner(file: Path, about: dict[str, Any]) -> tuple[Any, int]:
    """(a function from pixels to descriptors, the smallest side of an image that it takes)."""
    if file.suffix == ".onnx":
        return Exported.read(file).describe, 1
    import torch

    program = torch.export.load(file)
    # torch.export guarantees its program for feature maps of more than one pixel only.
    least = max(int(bounds.lower) for bounds in program.range_constraints.values())
    net = torch.export.unflatten(program)
    return lambda x: _by_torch(net, x, about), least


def _by_torch(net: "nn.Module", pixels: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    import torch

    from ...nets.embed import as_input, describe

    with torch.inference_mode():
        x = as_input(torch.from_numpy(pixels), torch.device("cpu"))
        return describe(net, x, about["scales"]).numpy()


def _milliseconds(run: Any, pixels: np.ndarray) -> float:
    """Median of nine runs on one image, after a warm-up."""
    (seconds,) = stopwatch.in_turn([lambda: run(pixels)], times=9, warm=2)
    return round(1000 * seconds, 2)
