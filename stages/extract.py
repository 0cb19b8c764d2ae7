"""One teacher sees every stored view once, ever.

    python -m stages.extract TEACHER data/prepared/train.h5 data/features/TEACHER.h5

Each picture is decoded once for all its views. Finished parts are kept in the scratch folder, so
that an interrupted run goes on where it was.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from .core import console, params, runtime, store
from .core.records import TrainSet

if TYPE_CHECKING:
    from torch import nn

app = console.app()
PART_VIEWS = 2048  # views in a part: what an interrupt can cost


class Params(params.Section):
    """Section `extract` of params.yaml."""

    batch: int = Field(ge=1)
    precision: str = Field(pattern="^(float32|float16|bfloat16)$")


@app.command()
def main(teacher: str, train: Path, out: Path, params_file: Path = params.OPTION) -> None:
    """Describe every stored view by TEACHER."""
    from . import teachers
    from .core import layers, weights

    p = params.section(params_file, "extract", Params)
    settings = params.teacher(params_file, teacher)
    views = TrainSet.read(train)
    views.check_pictures()
    net = teachers.load(settings["kind"], settings, f"{params_file}: teachers.{teacher}")
    net = layers.ready(net, runtime.device())
    source = {
        "teacher": teacher, "weights": weights.digest_of_state(net), "train": views.digest,
        "settings": store.digest_of(settings), "extract": store.digest_of(p.model_dump()),
    }  # fmt: skip
    with runtime.parts("extract", **source) as parts:
        rows = _parts(net, views, settings["image_px"], p, parts, teacher)
        dim = rows[0].shape[1]
        with store.create(
            out, "features", **source, dim=dim, image_px=settings["image_px"]
        ) as writer:
            writer.dataset("descriptor", (len(views.view_image), dim), np.float16)
            for part in rows:
                writer.append("descriptor", part)


def _parts(
    net: "nn.Module", views: TrainSet, px: int, p: Params, parts: runtime.Parts, teacher: str
) -> list[np.ndarray]:
    """Every part's rows, those that are there taken as they are."""
    ranges = ranges_of(views.spans(), PART_VIEWS)
    names = [f"{i:06d}" for i in range(len(ranges))]
    there = sum(parts.has(n) for n in names)
    if there:
        console.say(f"{teacher}: {there} of {len(ranges)} parts are there already")
    out = []
    for i, (name, pictures) in enumerate(zip(names, ranges, strict=True), 1):
        rows = parts.load(name)
        if rows is None:
            rows = describe_views(net, views, pictures, px, p, f"{teacher} {i}/{len(ranges)}")
            parts.save(name, rows)
        out.append(rows)
    return out


def ranges_of(spans: np.ndarray, views: int) -> list[tuple[int, int]]:
    """Ranges of pictures, in order, with up to `views` views each (more where one has more)."""
    ranges, first = [], 0
    while first < len(spans) - 1:
        last = int(np.searchsorted(spans, spans[first] + views, side="right")) - 1
        last = max(last, first + 1)
        ranges.append((first, last))
        first = last
    return ranges


def describe_views(
    net: "nn.Module", views: TrainSet, pictures: tuple[int, int], px: int, p: Params, label: str
) -> np.ndarray:
    """(m, dim) float16 unit descriptors of all stored views of a range of pictures."""
    import torch

    from .core.layers import as_input
    from .core.loading import ahead
    from .core.replay import Replay
    from .retrieval.multiscale import describe

    first, last = pictures
    spans = views.spans()[first : last + 1]
    jobs = [(first + a, first + b) for a, b in ranges_of(spans, p.batch)]
    device = next(net.parameters()).device
    precision, rows = getattr(torch, p.precision), []
    loaded = ahead(Replay(views, px).pictures, jobs)
    with torch.inference_mode(), torch.autocast(device.type, precision, p.precision != "float32"):
        for pixels in console.progress(loaded, total=len(jobs), label=label):
            for chunk in pixels.split(p.batch):
                rows.append(describe(net, as_input(chunk, device), [1]).half().cpu().numpy())
    return np.concatenate(rows)


if __name__ == "__main__":
    console.main(app)
