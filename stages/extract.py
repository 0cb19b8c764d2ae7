"""One teacher sees every stored view once, ever.

    python -m stages.extract TEACHER data/prepared/train.h5 data/features/TEACHER.h5

Each image is decoded once for all its views. Finished parts are kept in the scratch folder, so
that an interrupted run goes on where it was. A teacher of ready descriptors has one an image,
which all its views get.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from .core import console, files, params, runtime, store
from .images.sets import TrainSet

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

    given = params.read(params_file)
    p, settings = given.section("extract", Params), given.teacher(teacher)
    views = TrainSet.read(train)
    where = given.place(f"teachers.{teacher}")
    if teachers.has_network(settings.kind):
        by_network(teacher, settings, views, out, p, where)
    else:
        ready = teachers.rows(settings.kind, settings, where, views.image_id)
        repeat(teacher, ready, settings, views, out)


def by_network(
    teacher: str, settings: params.Teacher, views: TrainSet, out: Path, p: Params, where: str
) -> None:
    """Run the network on every view; rows go to the file part by part."""
    from . import teachers
    from .nets import embed, weights

    views.check_images()
    net = embed.ready(teachers.load(settings.kind, settings, where), runtime.device())
    source = {
        "teacher": teacher, "weights": weights.digest_of_state(net), "train": views.digest,
        "settings": files.digest_of(settings.model_dump()),
        "extract": files.digest_of(p.model_dump()),
    }  # fmt: skip
    px = settings.image_px
    with runtime.parts("extract", **source, contents=views.images) as parts:
        done = _parts(net, views, px, p, parts, teacher)
        first = next(done)
        dim = first.shape[1]
        files.check_room(parts.folder, parts.missing(len(views.view_image), first))
        with store.create(out, "features", **source, dim=dim, image_px=px) as writer:
            writer.dataset("descriptor", (len(views.view_image), dim), np.float16)
            writer.append("descriptor", first)
            for rows in done:
                writer.append("descriptor", rows)


def repeat(teacher: str, ready: Any, settings: params.Teacher, views: TrainSet, out: Path) -> None:
    """Write the ready descriptor of each view's image; crops and flips change nothing."""
    count = len(views.view_image)
    console.say(
        f"{teacher}: ready descriptors of {len(ready)} whole images; each of the {count} stored "
        "views gets its image's, crops and flips have none of their own"
    )
    about = {
        "teacher": teacher, "weights": ready.digest, "train": views.digest,
        "settings": files.digest_of(settings.model_dump()), "dim": ready.dim,
        "image_px": settings.image_px,
    }  # fmt: skip
    with store.create(out, "features", **about) as writer:
        writer.dataset("descriptor", (count, ready.dim), np.float16)
        starts = range(0, count, PART_VIEWS)
        for start in console.progress(starts, label=f"{teacher}: copying"):
            writer.append("descriptor", ready[views.view_image[start : start + PART_VIEWS]])


def _parts(
    net: "nn.Module", views: TrainSet, px: int, p: Params, parts: runtime.Parts, teacher: str
) -> Iterator[np.ndarray]:
    """Every part's rows in turn; parts that an earlier run finished are read."""
    ranges = ranges_of(views.spans(), PART_VIEWS)
    names = [f"{i:06d}" for i in range(len(ranges))]
    finished = sum(parts.has(n) for n in names)
    if finished:
        console.say(f"{teacher}: {finished} of {len(ranges)} parts are finished already")
    whole = console.Whole(len(views.view_image))
    for name, images in zip(names, ranges, strict=True):
        rows = parts.load(name)
        if rows is None:
            rows = describe_views(net, views, images, px, p, f"{teacher}: views", whole)
            parts.save(name, rows)
        else:
            whole.skip(len(rows))
        yield rows


def ranges_of(spans: np.ndarray, views: int) -> list[tuple[int, int]]:
    """Ranges of images, in order, with up to `views` views each (more where one has more)."""
    ranges, first = [], 0
    while first < len(spans) - 1:
        last = int(np.searchsorted(spans, spans[first] + views, side="right")) - 1
        last = max(last, first + 1)
        ranges.append((first, last))
        first = last
    return ranges


def describe_views(
    net: "nn.Module",
    views: TrainSet,
    images: tuple[int, int],
    px: int,
    p: Params,
    label: str,
    whole: console.Whole | None = None,
) -> np.ndarray:
    """(m, dim) float16 unit descriptors of all stored views of a range of images."""
    from .images.replay import Replay
    from .nets import embed

    first, last = images
    spans = views.spans()
    jobs = [(first + a, first + b) for a, b in ranges_of(spans[first : last + 1], p.batch)]

    def name(job: tuple[int, int], row: int) -> str:
        return str(views.file(*views.source(int(spans[job[0]]) + row)))

    described = embed.descriptors(
        net, Replay(views, px).images, jobs, precision=p.precision, most=p.batch, half=True,
        label=label, whole=whole, name=name,
        advice="set extract.precision: float32, or mend the teacher",
    )  # fmt: skip
    return np.concatenate([rows for _, rows in described])


if __name__ == "__main__":
    console.main(app)
