"""Write a student as ONNX and .pt2, after comparing both with torch on real images.

    whiten-mtd export models/student exported
    whiten-mtd export models/student student.onnx --images my/images

A folder gets `model.onnx`, `model.pt2`, the weights with their `config.json`, and a model card; it
can be uploaded to a model hub as it is. Input: RGB (B, 3, H, W) in [0, 1] of any B, H and W; the
metadata say how an image is turned into that, and at which scales it is described.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import typer
from pydantic import BaseModel

from ...core import console, files, machine, params, store
from ...core.errors import UserError
from ...images import listing, reading, rendering
from ...images.scales import Scales, Side, how_of
from ...images.sets import EvaluationSet
from . import model_card, programs

app = console.app()
BATCHES = (1, 33)  # batch sizes that are compared
PREPARED = (Path("data/prepared/validation.h5"), Path("data/prepared/evaluation"))


class Describe(BaseModel):
    """What `export` reads of section `describe` of params.yaml."""

    scales: Scales | dict[str, Scales]
    image_px: Side | dict[str, Side]


@app.command()
def main(
    student: Path,
    out: Path,
    images: Path = typer.Option(
        None, help="Images to compare on; default: those of the validation groups."
    ),
    params_file: Path = params.OPTION,
) -> None:
    """Export STUDENT to the folder OUT, or to a single file .onnx or .pt2."""
    from ...distill import student as students
    from ...nets import weights

    if out.suffix in (".onnx", ".pt2"):
        names = [f"model{out.suffix}"]
    elif out.suffix or (out.exists() and not out.is_dir()):
        raise UserError(f"{out}: OUT must be a folder, or a file that ends in .onnx or .pt2")
    else:
        names = ["model.onnx", "model.pt2"]
    net = students.load(student)
    given, load = params.read(params_file), machine.load()  # before torch adds to it
    p = given.part("describe", Describe)
    how = how_of(p.scales, p.image_px, student.resolve().name, net.image_px, params_file)
    about = {
        "format": store.file_format("exported"), "model": net.config["model"],
        "weights": weights.digest_of_state(net), "dim": net.dim,
        "image_px": how.px, "scales": how.scales,
        "init": net.config["init"], "aligned": bool(net.config.get("aligned", False)),
        "input": "RGB (B, 3, H, W) float32 in [0, 1]; mean and std are inside",
        "image": "EXIF orientation applied, RGB, long side at most image_px, never enlarged "
        "(Pillow, antialiased bilinear; null: as it is); at each scale, resized bilinearly without "
        "anti-aliasing; unit descriptors summed, then unit length",
    }  # fmt: skip
    sample = sample_of(images, how.px or net.image_px)
    with files.unfinished(out.resolve()) as folder:
        _forget_old_scratch(folder.parent)
        files.check_room(folder, 3 * students.weight_bytes(net))  # in both programs and beside them
        written = programs.write(net, about, folder, names)
        speed = {n: programs.compare(net, folder / n, about, sample) for n in written}
        if busy := machine.busy(load):
            console.say(f"milliseconds {busy}")
        if out.suffix:
            os.replace(folder / names[0], out)
        else:
            fill(folder, student, about, speed, given, busy)
            replace(folder, out)
    console.say(f"{out}: written")


def sample_of(images: Path | None, px: int) -> list[np.ndarray]:
    """Batches of real pixels: whole images by shape, one by one, and squares in one batch."""
    image_files = list(_files(images))[: BATCHES[-1]]
    if not image_files:
        raise UserError("no images to compare on; run prepare first, or give some: --images FOLDER")
    read = [reading.read(file) for file in image_files]
    plain = [rendering.plain(image, None, px) for image in read]
    shapes = [(p.shape[0], p.shape[1]) for p in plain]
    batches = [np.stack([plain[i] for i in b]) for b in rendering.batches_by_shape(shapes, 33)]
    whole = {"x": 0.0, "y": 0.0, "width": 1.0, "height": 1.0, "flip": 0.0}
    squares = [rendering.render(image, whole, px) for image in read]
    squares = (squares * BATCHES[-1])[: BATCHES[-1]]
    return [*(np.stack([p]) for p in plain[:8]), *batches, np.stack(squares)]


def _files(images: Path | None) -> list[Path]:
    if images is not None:
        root, names = listing.listed(images)
        return [root / n for n in names]
    sets = [PREPARED[0], *sorted(PREPARED[1].glob("*.h5"))]  # any real images will do
    for file in (f for f in sets if f.is_file()):
        own = EvaluationSet.read(file)
        if len(own.path):
            return [own.file(i) for i in range(len(own.path))]
    return []


def fill(
    folder: Path, student: Path, about: dict[str, Any], speed: dict[str, Any],
    given: params.Parameters, busy: str,
) -> None:  # fmt: skip
    """Add the rest of an exported folder: weights, `exported.json`, model card."""
    for name in ("model.safetensors", "config.json"):
        shutil.copyfile(student / name, folder / name)
    digests = {f.name: files.digest_of_file(f) for f in sorted(folder.iterdir())}
    files.write_text(folder / "exported.json", files.to_json({**about, "files": digests}))
    files.write_text(folder / "README.md", model_card.card(folder, about, speed, given, busy))


def replace(made: Path, out: Path) -> None:
    """Move a folder to `out`, in place of a previous export; any other folder is refused."""
    if out.is_dir() and any(out.iterdir()):
        if not (out / "exported.json").is_file():
            raise UserError(f"{out}: contains files that are not an export; give a new folder")
        shutil.rmtree(out)
    elif out.is_dir():
        out.rmdir()
    os.replace(made, out)


def _forget_old_scratch(parent: Path) -> None:
    """Remove what killed exports of version 0.1 left beside theirs."""
    for left in parent.glob(".export-*/exported"):
        shutil.rmtree(left.parent, ignore_errors=True)


if __name__ == "__main__":
    console.main(app)
