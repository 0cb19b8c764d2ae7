"""One model on plain images: the evaluation sets, or images or videos of one's own.

    python -m stages.describe MODEL data/prepared/evaluation data/described/MODEL
    python -m stages.describe models/student my/images mine.h5
    python -m stages.describe models/student my/videos mine.h5

MODEL is the name of a teacher, `fused` (the ensemble in the student's frame) or a
student's folder. Several scales are summed; images are batched by shape. A set of distractors
is a set like any other here: described once for each model.
"""

from collections.abc import Callable, Iterator
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
from .images.scales import Scales, Side, check_names, how_of
from .images.sets import EvaluationSet
from .retrieval.scoring_rules import crop_of

if TYPE_CHECKING:
    from torch import nn

app = console.app()
ROWS = 2048  # that are written at a time


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
            for start in range(0, len(rows), ROWS):
                part = slice(start, start + ROWS)
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
    from .nets import image_sets

    net, about = load_model(model, given)
    how = how_of(p.scales, p.image_px, about["model"], about["image_px"], given.path)
    about["image_px"] = how.px or "native"
    about["scales"] = " ".join(f"{s:.6g}" for s in how.scales)
    for image_set, _, name in todo:
        with runtime.parts(
            "describe", set=image_set.digest, contents=image_set.images, root=str(image_set.root),
            describe=p.model_dump(), **about,
        ) as parts:  # fmt: skip
            rows = image_sets.describe(
                net, image_set, how, p.batch, p.precision, parts, f"{model} {name}", whole
            )
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


if __name__ == "__main__":
    console.main(app)
