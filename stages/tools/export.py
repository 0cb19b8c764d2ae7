"""Write a student as ONNX and .pt2, compared with torch on real pictures before it is kept.

    whiten-mtd export models/student exported
    whiten-mtd export models/student student.onnx --pictures my/pictures

A folder gets `model.onnx`, `model.pt2`, the weights with their `config.json`, and a model card; it
can be uploaded to a model hub as it is. Input: RGB (B, 3, H, W) in [0, 1], each of them free; the
metadata say how a picture becomes that, and at which scales it is described.
"""

import copy
import json as jsons
import os
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer
from pydantic import BaseModel, Field

from ..core import console, images, params, store
from ..core.errors import UserError
from ..core.records import EvaluationSet
from ..retrieval.exported import METADATA, Exported
from . import _card

if TYPE_CHECKING:
    from torch import nn

app = console.app()
TOLERANCE = 1e-4  # largest difference of a component of a unit descriptor
BATCHES = (1, 33)  # sizes that are compared
PREPARED = (Path("data/prepared/validation.h5"), Path("data/prepared/evaluation"))


class Describe(BaseModel):
    """What an export takes over from section `describe` of params.yaml."""

    scales: list[float] = Field(min_length=1)
    image_px: int | None


@app.command()
def main(
    student: Path,
    out: Path,
    pictures: Path = typer.Option(
        None, help="Real pictures to compare on; those that `prepare` set aside by default."
    ),
    params_file: Path = params.OPTION,
) -> None:
    """Export STUDENT to the folder OUT, or to a single file .onnx or .pt2."""
    from ..core import weights
    from ..distill import student as students

    if out.suffix in (".onnx", ".pt2"):
        names = [f"model{out.suffix}"]
    elif out.suffix or (out.exists() and not out.is_dir()):
        raise UserError(f"{out}: give a folder, or a file that ends in .onnx or .pt2")
    else:
        names = ["model.onnx", "model.pt2"]
    net = students.load(student)
    p = params.check(_described(params_file), Describe, f"{params_file}: describe")
    about = {
        "format": store.file_format("exported"), "model": net.config["model"],
        "weights": weights.digest_of_state(net), "dim": net.dim,
        "image_px": p.image_px or net.image_px, "scales": p.scales,
        "init": net.config["init"], "aligned": bool(net.config.get("aligned", False)),
        "input": "RGB (B, 3, H, W) float32 in [0, 1]; mean and std are inside",
        "picture": "EXIF orientation applied, RGB, long side at most image_px, never enlarged "
        "(Pillow, antialiased bilinear); at each of the scales, resized bilinearly without "
        "anti-aliasing; unit descriptors summed, then unit length",
    }  # fmt: skip
    sample = sample_of(pictures, about["image_px"])
    with tempfile.TemporaryDirectory(dir=_parent(out), prefix=".export-") as scratch:
        folder = Path(scratch, "exported")
        folder.mkdir()
        written = write(net, about, folder, names)
        speed = {n: compare(net, folder / n, about, sample) for n in written}
        if out.suffix:
            os.replace(folder / names[0], out)
        else:
            fill(folder, student, about, speed, params_file)
            replace(folder, out)
    console.say(f"{out}: written")


def write(net: "nn.Module", about: dict[str, Any], folder: Path, names: list[str]) -> list[str]:
    """Write the programs `names` into `folder`. Raises UserError where torch cannot."""
    import torch

    free = torch.export.Dim.DYNAMIC
    px = about["image_px"]
    example = torch.rand(2, 3, px, max(px * 3 // 4, 1))
    text = jsons.dumps(about, sort_keys=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            console.say("exporting (half a minute for a small network)")
            program = torch.export.export(
                exportable(net), (example,), dynamic_shapes=({0: free, 2: free, 3: free},)
            )
            if "model.pt2" in names:
                torch.export.save(
                    program, folder / "model.pt2", extra_files={f"{METADATA}.json": text}
                )
            if "model.onnx" in names:
                made = torch.onnx.export(
                    program, (), dynamo=True, verbose=False, external_data=False,
                    input_names=["image"], output_names=["descriptor"],
                )  # fmt: skip
                assert made is not None
                made.model.metadata_props[METADATA] = text
                made.save(folder / "model.onnx")
        except (RuntimeError, ValueError, torch.onnx.errors.OnnxExporterError) as error:
            line = next((ln for ln in str(error).splitlines() if ln.strip()), type(error).__name__)
            raise UserError(
                f"{about['model']}: torch cannot export it with free batch, height and width "
                f"({line.strip()[:150]}); choose another trunk (train.student)"
            ) from None
    return names


def exportable(net: "nn.Module") -> "nn.Module":
    """A copy whose TensorFlow-like padding is plain arithmetic of whole numbers.

    timm's own (a maximum over a rounded-up quotient) makes the exporter reason for ever about sizes
    that are free. The same numbers: the total is k - s + (-size mod s), where k >= s.
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
                total = total if reach > 1 else 0  # a 1 x 1 window never reaches over the border
                sides.append((total // 2, total - total // 2))
                sizes.append((size + s - 1) // s)
            (top, bottom), (left, right) = sides
            y = F.conv2d(
                F.pad(x, (left, right, top, bottom)), self.weight, self.bias, self.stride, 0,
                self.dilation, self.groups,
            )  # fmt: skip
            return y.narrow(-2, 0, sizes[0]).narrow(-1, 0, sizes[1])  # nothing is cut: a word

    made = copy.deepcopy(net).eval()
    for module in made.modules():
        if isinstance(module, Conv2dSame):
            module.__class__ = Same
    return made


def sample_of(pictures: Path | None, px: int) -> list[np.ndarray]:
    """Batches of real pixels: whole pictures by shape, one by one, and squares in one batch."""
    found = list(_files(pictures))[: BATCHES[-1]]
    if not found:
        raise UserError(
            "no pictures to compare on; run prepare first, or give some: --pictures FOLDER"
        )
    read = [images.read(file) for file in found]
    plain = [images.plain(image, None, px) for image in read]
    shapes = [(p.shape[0], p.shape[1]) for p in plain]
    batches = [np.stack([plain[i] for i in b]) for b in images.batches_by_shape(shapes, 33)]
    whole = {"x": 0.0, "y": 0.0, "width": 1.0, "height": 1.0, "flip": 0.0}
    squares = [images.render(image, whole, px) for image in read]
    squares = (squares * BATCHES[-1])[: BATCHES[-1]]
    return [*(np.stack([p]) for p in plain[:8]), *batches, np.stack(squares)]


def _files(pictures: Path | None) -> list[Path]:
    if pictures is not None:
        root, names = images.listed(pictures)
        return [root / n for n in names]
    sets = [PREPARED[0], *sorted(PREPARED[1].glob("*.h5"))]  # any real pictures will do
    for file in (f for f in sets if f.is_file()):
        found = EvaluationSet.read(file)
        if len(found.path):
            return [found.file(i) for i in range(len(found.path))]
    return []


def compare(
    net: "nn.Module", file: Path, about: dict[str, Any], sample: list[np.ndarray]
) -> dict[str, float]:
    """Compare a program with torch at the scales described; returns difference and milliseconds.

    Raises UserError where they differ: nothing is kept then.
    """
    run = _runner(file, about)
    differences = [float(np.abs(run(x) - _by_torch(net, x, about)).max()) for x in sample]
    worst = max(differences)
    sizes = sorted({len(x) for x in sample})
    console.result(
        f"{file.name}: largest difference to torch {worst:.1e}, {sum(map(len, sample))} pictures "
        f"in batches of {sizes[0]} to {sizes[-1]}, {len({x.shape[1:3] for x in sample})} shapes"
    )
    if not worst <= TOLERANCE:
        raise UserError(f"{file.name}: differs from torch by more than {TOLERANCE:g}; not kept")
    return {"difference": worst, "ms": _milliseconds(run, sample[0]),
            "torch_ms": _milliseconds(lambda x: _by_torch(net, x, about), sample[0])}  # fmt: skip


def _runner(file: Path, about: dict[str, Any]) -> Any:
    if file.suffix == ".onnx":
        return Exported.read(file).describe
    import torch

    program = torch.export.unflatten(torch.export.load(file))
    return lambda x: _by_torch(program, x, about)


def _by_torch(net: "nn.Module", pixels: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    import torch

    from ..core.layers import as_input
    from ..retrieval.multiscale import describe

    with torch.inference_mode():
        x = as_input(torch.from_numpy(pixels), torch.device("cpu"))
        return describe(net, x, about["scales"]).numpy()


def _milliseconds(run: Any, pixels: np.ndarray) -> float:
    """Median of nine runs on one picture, after a warm-up."""
    times = []
    for _ in range(11):
        start = time.perf_counter()
        run(pixels)
        times.append(time.perf_counter() - start)
    return round(1000 * sorted(times[2:])[4], 2)


def fill(
    folder: Path, student: Path, about: dict[str, Any], speed: dict[str, Any], params_file: Path
) -> None:
    """The rest of an exported folder: weights, what they are, the card."""
    for name in ("model.safetensors", "config.json"):
        shutil.copyfile(student / name, folder / name)
    files = {f.name: store.digest_of_file(f) for f in sorted(folder.iterdir())}
    store.write_text(folder / "exported.json", store.to_json({**about, "files": files}))
    store.write_text(folder / "README.md", _card.card(folder, about, speed, params_file))


def replace(made: Path, out: Path) -> None:
    """Put a folder in the place of an earlier export; anything else there is left alone."""
    if out.is_dir() and any(out.iterdir()):
        if not (out / "exported.json").is_file():
            raise UserError(f"{out}: holds other things; give a new folder")
        shutil.rmtree(out)
    elif out.is_dir():
        out.rmdir()
    os.replace(made, out)


def _described(params_file: Path) -> dict[str, Any]:
    values = params.read(params_file)["describe"]
    return {key: values[key] for key in Describe.model_fields if key in values}


def _parent(out: Path) -> Path:
    parent = out.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    return parent


if __name__ == "__main__":
    console.main(app)
