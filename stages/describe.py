"""One model on plain pictures: the evaluation sets, or pictures of one's own.

    python -m stages.describe MODEL data/prepared/evaluation data/described/MODEL
    python -m stages.describe models/student my/pictures mine.h5

MODEL is the name of a teacher, `fused` (the whitened ensemble in the student's frame) or a
student's folder. Several scales are summed; pictures are batched by shape.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from .core import console, params, runtime, store
from .core.errors import UserError
from .core.records import EvaluationSet

if TYPE_CHECKING:
    from torch import nn

app = console.app()
PART_IMAGES = 2048
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"}


class Params(params.Section):
    """Section `describe` of params.yaml."""

    scales: list[float] = Field(min_length=1)
    image_px: int | None
    batch: int = Field(ge=1)
    precision: str = Field(pattern="^(float32|float16|bfloat16)$")


@app.command()
def main(model: str, images: Path, out: Path, params_file: Path = params.OPTION) -> None:
    """Describe the pictures IMAGES by MODEL."""
    p = params.section(params_file, "describe", Params)
    values = params.read(params_file)
    sets = [n for n in values["evaluation"] if (images / f"{n}.h5").is_file()]
    if sets and (missing := [n for n in values["evaluation"] if n not in sets]):
        raise UserError(f"{images}: no {missing[0]}.h5; run prepare again")
    net, about = load_model(model, values, params_file)
    net_px = p.image_px or int(about["image_px"])
    for name in sets:
        found = EvaluationSet.read(images / f"{name}.h5")
        describe_set(net, found, out / f"{name}.h5", p, {**about, "image_px": net_px}, name)
    if not sets:
        describe_set(net, own_pictures(images), out, p, {**about, "image_px": net_px}, images.name)


def load_model(model: str, values: dict[str, Any], where: Path) -> tuple["nn.Module", dict[str, Any]]:
    """The network MODEL names and what a descriptor file says of it."""
    from .core import layers, weights

    if Path(model, "config.json").is_file():
        from .distill import student

        net: Any = student.load(Path(model))
        keys = ("image_px", "init", "aligned")
        about = {k: net.config[k] for k in keys if k in net.config}
        about["model"] = Path(model).name
    else:
        from . import teachers

        table = params.teachers(values, where)
        if model not in table:
            raise UserError(
                f"no teacher {model!r} in {where} and no student's folder of that name: choose "
                f"from {', '.join(table)} or give a folder with config.json"
            )
        settings = table[model]
        net = teachers.load(settings["kind"], settings, f"{where}: teachers.{model}")
        about = {"image_px": settings["image_px"], "model": model, "init": "teacher"}
    about["weights"] = weights.digest_of_state(net)
    return layers.ready(net, runtime.device()), about


def describe_set(
    net: "nn.Module", found: EvaluationSet, out: Path, p: Params, about: dict[str, Any], name: str
) -> None:
    """Write the descriptor file of one set."""
    with runtime.parts(
        "describe", set=found.digest, describe=p.model_dump(), root=str(found.root), **about
    ) as parts:
        rows = describe_images(net, found, p, about["image_px"], parts, f"{about['model']} {name}")
    store.write(
        out,
        "descriptors",
        {"descriptor": rows, "image_id": found.image_id, "path": found.path},
        **about,
        root=found.root.as_posix(),
        scales=" ".join(f"{s:.6g}" for s in p.scales),
        set=found.digest,
    )


def describe_images(
    net: "nn.Module", found: EvaluationSet, p: Params, px: int, parts: runtime.Parts, label: str
) -> np.ndarray:
    """(n, dim) float16 unit descriptors of a set's pictures, in its order."""
    from .core import images
    from .retrieval.multiscale import batches_by_shape

    n = len(found.image_id)
    shapes = [
        images.plain_shape(*images.shape(found.file(i)), found.rectangle(i), px) for i in range(n)
    ]
    batches = batches_by_shape(shapes, p.batch)
    rows: np.ndarray | None = None
    for first in range(0, len(batches), PART_IMAGES // p.batch + 1):
        chunk = batches[first : first + PART_IMAGES // p.batch + 1]
        done = parts.load(f"{first:06d}")
        if done is None:
            done = _describe_batches(net, found, chunk, p, px, label)
            parts.save(f"{first:06d}", done)
        if rows is None:
            rows = np.empty((n, done.shape[1]), dtype=np.float16)
        rows[np.concatenate(chunk)] = done
    if rows is None:
        raise UserError(f"{found.root}: no pictures to describe")
    return rows


def _describe_batches(
    net: "nn.Module", found: EvaluationSet, batches: list[list[int]], p: Params, px: int, label: str
) -> np.ndarray:
    import torch

    from .core import images
    from .core.layers import as_input
    from .core.loading import ahead
    from .retrieval.multiscale import describe

    def load(batch: list[int]) -> np.ndarray:
        read = (images.plain(images.read(found.file(i)), found.rectangle(i), px) for i in batch)
        return np.stack(list(read))

    device, out = runtime.device(), []
    precision = getattr(torch, p.precision)
    with torch.inference_mode(), torch.autocast(device.type, precision, p.precision != "float32"):
        for pixels in console.progress(ahead(load, batches), total=len(batches), label=label):
            x = as_input(pixels, device)
            out.append(describe(net, x, p.scales).half().cpu().numpy())
    return np.concatenate(out)


def own_pictures(images: Path) -> EvaluationSet:
    """Pictures of a folder (all below it, by suffix) or of a list file (a path a line)."""
    if images.is_dir():
        root = images
        found = sorted(f.relative_to(root).as_posix() for f in root.rglob("*") if _is_picture(f))
    elif images.suffix.lower() in SUFFIXES and images.is_file():
        root, found = images.parent, [images.name]
    elif images.is_file():
        root = images.parent
        found = [line.strip() for line in images.read_text("utf-8").splitlines() if line.strip()]
    else:
        raise UserError(f"{images}: neither a folder of pictures nor a list of their paths")
    if not found:
        raise UserError(f"{images}: no pictures in it ({', '.join(sorted(SUFFIXES))})")
    names, n = np.array(found), len(found)
    lengths = [(f, (root / f).stat().st_size if (root / f).is_file() else -1) for f in found]
    digest = hashlib.blake2b(repr(lengths).encode(), digest_size=16).hexdigest()
    box = np.full((n, 4), np.nan, dtype=np.float32)
    return EvaluationSet(root, names, names, np.array(["database"] * n), box, digest)


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and file.is_file()


if __name__ == "__main__":
    console.main(app)
