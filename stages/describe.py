"""One model on plain images: the evaluation sets, or images or videos of one's own.

    python -m stages.describe MODEL data/prepared/evaluation data/described/MODEL
    python -m stages.describe models/student my/images mine.h5
    python -m stages.describe models/student my/videos mine.h5

MODEL is the name of a teacher, `fused` (the ensemble in the student's frame) or a
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

from .core import console, files, params, runtime, seen_files, store
from .core.errors import UserError
from .core.params import Parameters
from .images import own
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
    given = params.read(params_file)
    p = given.section("describe", Params)
    sets = [n for n in given.evaluation if (images / f"{n}.h5").is_file()]
    if sets and (missing := [n for n in given.evaluation if n not in sets]):
        raise UserError(f"{images}: no {missing[0]}.h5; run prepare again")
    todo = [(EvaluationSet.read(images / f"{n}.h5"), out / f"{n}.h5", n) for n in sets]
    for image_set, _, _ in todo:
        image_set.check_images()
    work = partial(describe_todo, model, p, given, whitenings)
    if not todo:
        return describe_own(images, out, given, work)
    inner = [
        k for k in (params.OLD_MODEL, params.TRAINED) if Path(model, k, "config.json").is_file()
    ]
    whole = whole_of(todo, given, model, models=1 + len(inner))
    work(todo, whole=whole)
    for kind in inner:  # students inside a student's folder
        own = [(image_set, out / kind / file.name, n) for image_set, file, n in todo]
        describe_todo(str(Path(model, kind)), p, given, whitenings, own, whole=whole)


Todo = list[tuple[EvaluationSet, Path, str]]
Done = Iterator[tuple[Any, dict[str, Any]]]  # rows: a length, and an array for a slice


def describe_own(images: Path, out: Path, given: Parameters, work: "Work") -> None:
    """Describe images or videos of one's own; where there are no sets at all, nothing."""
    if not given.evaluation and images.is_dir() and not any(images.iterdir()):
        out.mkdir(parents=True, exist_ok=True)
        console.say("no evaluation sets: nothing to describe")
        return
    root, videos = own.own_videos(images)
    if not videos:
        work([(own.own_images(images), out, images.name)])
        return
    content = seen_files.digest_of_all(root, videos, "reading videos")
    with runtime.parts("frames", root=str(root.resolve()), videos=content) as parts:
        work([(own.decoded(root, videos, parts.folder), out, images.name)], root)


Work = Callable[..., None]


def describe_todo(
    model: str, p: Params, given: Parameters, whitenings: Path, todo: Todo,
    root: Path | None = None, whole: console.Whole | None = None,
) -> None:  # fmt: skip
    """Write one model's descriptor file of each set; `root`: where the ids are the paths from."""
    describe_all = describe_fused if model == "fused" else describe_sets
    whole = whole or whole_of(todo, given, model)
    done = describe_all(model, todo, p, given, whitenings, whole)
    for (image_set, file, _), (rows, about) in zip(todo, done, strict=True):
        source = {"root": (root or image_set.root).as_posix(), "set": image_set.digest}
        source["crop"] = crop_of(image_set, image_set.role == "query")
        described = own.described(image_set, rows)
        image_set = own.only(image_set, described)
        with store.create(file, "descriptors", **about, **source) as writer:
            dim = rows[:1].shape[1]
            writer.dataset("descriptor", (int(described.sum()), dim), np.float16)
            for start in range(0, len(rows), PART_IMAGES):
                part = slice(start, start + PART_IMAGES)
                writer.append("descriptor", rows[part][described[part]])
            writer.array("image_id", image_set.image_id)
            writer.array("path", image_set.path if root is None else image_set.image_id)
            if image_set.start is not None:
                writer.array("start", image_set.start)


def whole_of(todo: Todo, given: Parameters, model: str, models: int = 1) -> console.Whole:
    """Every image of all sets by each network."""
    models = len(given.ensemble) if model == "fused" else models
    return console.Whole(models * sum(image_set.count for image_set, _, _ in todo))


def describe_sets(
    model: str, todo: Todo, p: Params, given: Parameters, whitenings: Path, whole: console.Whole
) -> Done:
    """(descriptors, what to say of them) of each set by one network."""
    check_names((p.scales, p.image_px), (*given.kinds, *params.RESERVED), given.path)
    if is_ready(model, given):
        yield from ready_sets(model, todo, given)
        return
    net, about = load_model(model, given)
    how = how_of(p.scales, p.image_px, about["model"], about["image_px"], given.path)
    about["image_px"] = how.px or "native"
    about["scales"] = " ".join(f"{s:.6g}" for s in how.scales)
    for image_set, _, name in todo:
        with runtime.parts(
            "describe", set=image_set.digest, contents=image_set.images, root=str(image_set.root),
            describe=p.model_dump(), **about,
        ) as parts:  # fmt: skip
            rows = describe_images(net, image_set, p, how, parts, f"{model} {name}", whole)
        yield rows, about


def is_ready(model: str, given: Parameters) -> bool:
    """Whether MODEL is a teacher of ready descriptors, without a network."""
    if Path(model, "config.json").is_file() or model not in given.kinds:
        return False
    from . import teachers

    return not teachers.has_network(given.kinds[model])


def ready_sets(model: str, todo: Todo, given: Parameters) -> Done:
    """The ready descriptors of each set, by the ids of its images."""
    from . import teachers

    settings, where = given.teacher(model), given.place(f"teachers.{model}")
    for image_set, _, name in todo:
        ready = teachers.rows(settings.kind, settings, where, image_set.image_id)
        console.say(f"{model}: ready descriptors of the {len(ready)} images of {name}")
        yield ready, {
            "image_px": settings.image_px or "unknown", "model": model,
            "init": "teacher", "scales": "unknown", "weights": ready.digest,
        }  # fmt: skip


def describe_fused(
    model: str, todo: Todo, p: Params, given: Parameters, whitenings: Path, whole: console.Whole
) -> Done:
    """(fused embeddings, what to say of them) of each set: the ensemble in the student's frame."""
    from .distill import frames
    from .retrieval.lazy_rows import Mapped, Rows

    name = frames.of_student(whitenings.parent / "student")
    frame = frames.read(whitenings, name, given.ensemble)
    own: list[list[Rows]] = [[] for _ in todo]
    settings = []
    for teacher in given.ensemble:
        described = describe_sets(teacher, todo, p, given, whitenings, whole)
        for rows, (descriptor, one) in zip(own, described, strict=True):
            rows.append(descriptor)
            settings.append(one)
    about = {"model": "fused", "init": "teacher", "aligned": True, "frame": name}
    about |= {
        k: " and ".join(dict.fromkeys(str(s[k]) for s in settings)) for k in ("image_px", "scales")
    }
    about["weights"] = files.digest_of_file(frames.fused_file(whitenings, name))
    console.say(f"fused: in the frame {name}")
    for rows in own:
        yield Mapped(frame.apply, *rows), about


def load_model(model: str, given: Parameters) -> tuple["nn.Module", dict[str, Any]]:
    """The network MODEL names and what a descriptor file says of it."""
    from .nets import embed, weights

    if Path(model, "config.json").is_file():
        from .distill import student

        net: Any = student.load(Path(model))
        keys = ("image_px", "init", "aligned", "backward_compatible", "trained_apart", "frame")
        about = {k: net.config[k] for k in keys if k in net.config}
        about["model"] = Path(model).name
    else:
        from . import teachers

        if model not in given.kinds:
            raise UserError(
                f"no teacher {model!r} in {given.path} and no student's folder of that name: "
                f"choose from {', '.join(given.kinds)}, fused, or give a folder with config.json"
            )
        settings = given.teacher(model)
        net = teachers.load(settings.kind, settings, given.place(f"teachers.{model}"))
        about = {"image_px": settings.image_px, "model": model, "init": "teacher"}
    about["weights"] = weights.digest_of_state(net)
    return embed.ready(net, runtime.device()), about


def describe_images(
    net: "nn.Module",
    images: EvaluationSet,
    p: Params,
    how: How,
    parts: runtime.Parts,
    label: str,
    whole: console.Whole,
) -> np.ndarray:
    """(n, dim) float16 unit descriptors of a set's images, in its order, on disk (unlinked)."""
    rows: np.ndarray | None = None
    for number, chunk in enumerate(_chunks(images, p.batch, how.px, label)):
        name = f"{number:06d}"
        part = parts.load(name)
        if part is None:
            part = _describe_chunk(net, images, chunk, p, how, label, whole)
            if part is None:
                continue
            parts.save(name, part)
        else:
            whole.skip(len(part))
        if rows is None:  # on disk, since a million rows would fill the memory
            shape = (images.count, part.shape[1])
            rows = parts.reserved("rows", shape, np.float16)
            files.check_room(parts.folder, parts.missing(images.count, part))
            if images.own:
                rows[:] = np.nan  # until described: some cannot be read
        rows[np.concatenate(chunk)] = part
    if rows is None:
        own.described(images, np.full((images.count, 1), np.nan))  # says why each, if it has any
        raise UserError(f"{images.root}: no images to describe")
    return rows


def _chunks(
    images: EvaluationSet, batch: int, px: int | None, label: str
) -> Iterator[list[list[int]]]:
    """Batches of images of one shape, about PART_IMAGES at a time, of LOOK_AHEAD known shapes."""
    step = PART_IMAGES // batch + 1
    for first in range(0, images.count, LOOK_AHEAD):
        some = range(first, min(first + LOOK_AHEAD, images.count))
        looked = console.progress(some, total=len(some), label=f"{label}: shapes", part=True)
        batches = own.batches(images, looked, batch, px)
        yield from (batches[i : i + step] for i in range(0, len(batches), step))


def _describe_chunk(
    net: "nn.Module", images: EvaluationSet, batches: list[list[int]], p: Params, how: How,
    label: str, whole: console.Whole,
) -> np.ndarray | None:  # fmt: skip
    """Rows of the images of all batches, None for none; of one's own that are broken NaN."""
    try:
        return _describe_batches(net, images, batches, p, how, label, whole)
    except UserError:
        rows = [i for batch in batches for i in batch]
        lost = set(own.unreadable(images, rows))
        if not lost:
            raise
    sound = [good for batch in batches if (good := [i for i in batch if i not in lost])]
    if not sound:
        return None
    done = _describe_batches(net, images, sound, p, how, label, whole)
    out = np.full((len(rows), done.shape[1]), np.nan, done.dtype)
    out[[i not in lost for i in rows]] = done
    return out


def _describe_batches(
    net: "nn.Module",
    images: EvaluationSet,
    batches: Sequence[list[int]],
    p: Params,
    how: How,
    label: str,
    whole: console.Whole,
) -> np.ndarray:
    """(b, dim) float16 descriptors of the images of `batches`, in that order."""
    from .images import reading, rendering
    from .nets import embed

    def load(batch: list[int]) -> np.ndarray:
        return np.stack(
            [
                rendering.plain(reading.read(images.file(i)), images.rectangle(i), how.px)
                for i in batch
            ]
        )

    described = embed.descriptors(
        net, load, batches, scales=how.scales, precision=p.precision, half=True, label=label,
        whole=whole, name=lambda batch, row: str(images.file(batch[row])),
        advice="set describe.precision: float32, or mend the model",
    )  # fmt: skip
    return np.concatenate([rows for _, rows in described])


if __name__ == "__main__":
    console.main(app)
