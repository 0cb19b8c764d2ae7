"""One model on plain images: the evaluation sets, or images or videos of one's own.

    python -m stages.describe MODEL data/prepared/evaluation data/described/MODEL
    python -m stages.describe models/student my/images mine.h5
    python -m stages.describe models/student my/videos mine.h5

MODEL is the name of a teacher, `fused` (the whitened ensemble in the student's frame) or a
student's folder. Several scales are summed; images are batched by shape. A set of distractors
is a set like any other here: described once for each model.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer
from pydantic import Field

from .core import console, files, params, runtime, store
from .core.errors import UserError
from .images import own
from .images.own import decoded, own_images, own_videos, sizes
from .images.scales import How, Scales, Side, check_names, how_of
from .images.sets import EvaluationSet
from .retrieval.scoring_rules import crop_of

if TYPE_CHECKING:
    from torch import nn

app = console.app()
PART_IMAGES = 2048
LOOK_AHEAD = 1 << 20  # images whose shapes are known at a time


class Params(params.Section):
    """Section `describe` of params.yaml."""

    scales: Scales | dict[str, Scales]
    image_px: Side | dict[str, Side]
    batch: int = Field(ge=1)
    precision: str = Field(pattern="^(float32|float16|bfloat16)$")


@app.command()
def main(
    model: str,
    images: Path,
    out: Path,
    whitenings: Path = typer.Option(
        Path("models/whitening"), help="Whitening files, for MODEL `fused`."
    ),
    params_file: Path = params.OPTION,
) -> None:
    """Describe the images (or videos) IMAGES by MODEL."""
    p = params.section(params_file, "describe", Params)
    values = params.read(params_file)
    sets = [n for n in values["evaluation"] if (images / f"{n}.h5").is_file()]
    if sets and (missing := [n for n in values["evaluation"] if n not in sets]):
        raise UserError(f"{images}: no {missing[0]}.h5; run prepare again")
    todo = [(EvaluationSet.read(images / f"{n}.h5"), out / f"{n}.h5", n) for n in sets]
    for found, _, _ in todo:
        found.check_images()
    work = partial(describe_todo, model, p, values, params_file, whitenings)
    if not todo:
        describe_own(images, out, values, work)
        return
    work(todo)
    old_model = Path(model, params.OLD_MODEL)  # the student that this one's descriptors match
    if (old_model / "config.json").is_file():
        todo = [(found, out / params.OLD_MODEL / file.name, n) for found, file, n in todo]
        describe_todo(str(old_model), p, values, params_file, whitenings, todo)


Todo = list[tuple[EvaluationSet, Path, str]]
Done = Iterator[tuple[Any, dict[str, Any]]]  # rows: a length, and an array for a slice


def describe_own(images: Path, out: Path, values: dict[str, Any], work: "Work") -> None:
    """Describe images or videos of one's own; where there are no sets at all, nothing."""
    if not values["evaluation"] and images.is_dir() and not any(images.iterdir()):
        out.mkdir(parents=True, exist_ok=True)
        console.say("no evaluation sets: nothing to describe")
        return
    root, videos = own_videos(images)
    if not videos:
        work([(own_images(images), out, images.name)])
        return
    with runtime.parts("frames", root=str(root.resolve()), videos=sizes(root, videos)) as parts:
        work([(decoded(root, videos, parts.folder), out, images.name)], root)


Work = Callable[..., None]


def describe_todo(
    model: str, p: Params, values: dict[str, Any], where: Path, whitenings: Path, todo: Todo,
    root: Path | None = None,
) -> None:  # fmt: skip
    """Write one model's descriptor file of each set; `root`: where the ids are the paths from."""
    describe_all = describe_fused if model == "fused" else describe_sets
    done = describe_all(model, todo, p, values, where, whitenings)
    for (found, file, _), (rows, about) in zip(todo, done, strict=True):
        whence = {"root": (root or found.root).as_posix(), "set": found.digest}
        whence["crop"] = crop_of(found, found.role == "query")
        described = own.described(found, rows)
        found = own.only(found, described)
        with store.create(file, "descriptors", **about, **whence) as writer:
            dim = rows[:1].shape[1]
            writer.dataset("descriptor", (int(described.sum()), dim), np.float16)
            for start in range(0, len(rows), PART_IMAGES):
                part = slice(start, start + PART_IMAGES)
                writer.append("descriptor", rows[part][described[part]])
            writer.array("image_id", found.image_id)
            writer.array("path", found.path if root is None else found.image_id)
            if found.start is not None:
                writer.array("start", found.start)


def describe_sets(
    model: str, todo: Todo, p: Params, values: dict[str, Any], where: Path, whitenings: Path
) -> Done:
    """(descriptors, what to say of them) of each set by one network."""
    check_names((p.scales, p.image_px), (*params.teachers(values, where), *params.RESERVED), where)
    if is_ready(model, values):
        yield from ready_sets(model, todo, values, where)
        return
    net, about = load_model(model, values, where)
    how = how_of(p.scales, p.image_px, about["model"], about["image_px"], where)
    about["image_px"] = how.px or "native"
    about["scales"] = " ".join(f"{s:.6g}" for s in how.scales)
    for found, _, name in todo:
        with runtime.parts(
            "describe", set=found.digest, describe=p.model_dump(), root=str(found.root), **about
        ) as parts:
            rows = describe_images(net, found, p, how, parts, f"{model} {name}")
        yield rows, about


def is_ready(model: str, values: dict[str, Any]) -> bool:
    """Whether MODEL is a teacher of ready descriptors, without a network."""
    if Path(model, "config.json").is_file() or model not in values["teachers"]:
        return False
    from . import teachers

    return not teachers.has_network(values["teachers"][model]["kind"])


def ready_sets(model: str, todo: Todo, values: dict[str, Any], where: Path) -> Done:
    """The ready descriptors of each set, by the ids of its images."""
    from . import teachers

    settings = values["teachers"][model]
    for found, _, name in todo:
        place = f"{where}: teachers.{model}"
        ready = teachers.rows(settings["kind"], settings, place, found.image_id)
        console.say(f"{model}: ready descriptors of the {len(ready)} images of {name}")
        yield ready, {
            "image_px": settings.get("image_px", 0) or "unknown", "model": model,
            "init": "teacher", "scales": "unknown", "weights": ready.digest,
        }  # fmt: skip


def describe_fused(
    model: str, todo: Todo, p: Params, values: dict[str, Any], where: Path, whitenings: Path
) -> Done:
    """(fused embeddings, what to say of them) of each set: the ensemble in the student's frame."""
    from .distill import prototypes, whitening
    from .retrieval.lazy_rows import Mapped, Rows

    params.teachers(values, where)
    frame = whitening.read(whitenings / "fused.h5")
    white: list[list[Rows]] = [[] for _ in todo]
    told = []
    for teacher in values["ensemble"]:
        own = whitening.read(whitenings / f"{teacher}.h5")
        described = describe_sets(teacher, todo, p, values, where, whitenings)
        for rows, (descriptor, said) in zip(white, described, strict=True):
            rows.append(Mapped(partial(whitening.apply, by=own), descriptor))
            told.append(said)
    about = {"model": "fused", "init": "teacher", "aligned": True}
    about |= {
        k: " and ".join(dict.fromkeys(str(t[k]) for t in told)) for k in ("image_px", "scales")
    }
    about["weights"] = files.digest_of_file(whitenings / "fused.h5")
    for rows in white:
        yield Mapped(lambda *r: whitening.apply(prototypes.concatenate(r), frame), *rows), about


def load_model(
    model: str, values: dict[str, Any], where: Path
) -> tuple["nn.Module", dict[str, Any]]:
    """The network MODEL names and what a descriptor file says of it."""
    from .nets import layers, weights

    if Path(model, "config.json").is_file():
        from .distill import student

        net: Any = student.load(Path(model))
        keys = ("image_px", "init", "aligned", "backward_compatible")
        about = {k: net.config[k] for k in keys if k in net.config}
        about["model"] = Path(model).name
    else:
        from . import teachers

        table = params.teachers(values, where)
        if model not in table:
            raise UserError(
                f"no teacher {model!r} in {where} and no student's folder of that name: choose "
                f"from {', '.join(table)}, fused, or give a folder with config.json"
            )
        settings = table[model]
        net = teachers.load(settings["kind"], settings, f"{where}: teachers.{model}")
        about = {"image_px": settings["image_px"], "model": model, "init": "teacher"}
    about["weights"] = weights.digest_of_state(net)
    return layers.ready(net, runtime.device()), about


def describe_images(
    net: "nn.Module", found: EvaluationSet, p: Params, how: How, parts: runtime.Parts, label: str
) -> np.ndarray:
    """(n, dim) float16 unit descriptors of a set's images, in its order, on disk (unlinked)."""
    rows: np.ndarray | None = None
    for number, chunk in enumerate(_chunks(found, p.batch, how.px, label)):
        name = f"{number:06d}"
        done = parts.load(name)
        if done is None:
            done = _describe_chunk(net, found, chunk, p, how, label)
            if done is None:
                continue
            parts.save(name, done)
        if rows is None:  # a million rows are no guest of the memory
            shape = (found.count, done.shape[1])
            rows = np.memmap(parts.folder / "rows", dtype=np.float16, mode="w+", shape=shape)
            if found.own:
                rows[:] = np.nan  # until described: some cannot be read
        rows[np.concatenate(chunk)] = done
    if rows is None:
        own.described(found, np.full((found.count, 1), np.nan))  # says why each, if it has any
        raise UserError(f"{found.root}: no images to describe")
    return rows


def _chunks(
    found: EvaluationSet, batch: int, px: int | None, label: str
) -> Iterator[list[list[int]]]:
    """Batches of images of one shape, PART_IMAGES or so at a time; a million looked at ahead."""
    step = PART_IMAGES // batch + 1
    for first in range(0, found.count, LOOK_AHEAD):
        images = range(first, min(first + LOOK_AHEAD, found.count))
        looked = console.progress(images, total=len(images), label=f"{label}: shapes")
        batches = own.batches(found, looked, batch, px)
        yield from (batches[i : i + step] for i in range(0, len(batches), step))


def _describe_chunk(
    net: "nn.Module", found: EvaluationSet, batches: list[list[int]], p: Params, how: How,
    label: str,
) -> np.ndarray | None:  # fmt: skip
    """Rows of the images of all batches, None for none; of one's own that are broken NaN."""
    try:
        return _describe_batches(net, found, batches, p, how, label)
    except UserError:
        images = [i for batch in batches for i in batch]
        lost = set(own.unreadable(found, images))
        if not lost:
            raise
    whole = [good for batch in batches if (good := [i for i in batch if i not in lost])]
    if not whole:
        return None
    done = _describe_batches(net, found, whole, p, how, label)
    rows = np.full((len(images), done.shape[1]), np.nan, done.dtype)
    rows[[i not in lost for i in images]] = done
    return rows


def _describe_batches(
    net: "nn.Module",
    found: EvaluationSet,
    batches: Sequence[list[int]],
    p: Params,
    how: How,
    label: str,
) -> np.ndarray:
    import torch

    from .images import reading, rendering
    from .nets.embed import describe
    from .nets.layers import as_input
    from .nets.prefetch import ahead

    def load(batch: list[int]) -> np.ndarray:
        read = (
            rendering.plain(reading.read(found.file(i)), found.rectangle(i), how.px) for i in batch
        )
        return np.stack(list(read))

    device, out = runtime.device(), []
    precision = getattr(torch, p.precision)
    with torch.inference_mode(), torch.autocast(device.type, precision, p.precision != "float32"):
        for pixels in console.progress(ahead(load, batches), total=len(batches), label=label):
            x = as_input(pixels, device)
            out.append(describe(net, x, how.scales).half().cpu().numpy())
    return np.concatenate(out)


if __name__ == "__main__":
    console.main(app)
