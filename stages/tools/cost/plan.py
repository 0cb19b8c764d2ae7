"""What a run will cost before it starts: disk, teacher passes, memory, hours.

    whiten-mtd plan

Counts from `params.yaml` and from what `prepare` wrote; where nothing was prepared, from the
dataset's own settings or listing. A short calibration times this machine; `--no-calibrate` leaves
the hours out.
"""

from pathlib import Path
from typing import Any

import numpy as np
import typer

from ...core import console, files, params, runtime
from ...core.errors import UserError
from ...distill import batches
from ...images import views
from ...images.sets import EvaluationSet, TrainSet
from .. import check_params
from . import estimate, machine_trial
from .estimate import World
from .machine_trial import Trial

app = console.app()
UNKNOWN_DIM = machine_trial.STAND_IN_DIM


@app.command()
def main(
    calibrate: bool = typer.Option(True, help="Time this machine, for the hours."),
    seconds: float = typer.Option(30.0, min=1, max=3600, help="How long to time it, about."),
    images: int = typer.Option(None, min=2, help="Plan for this many training images."),
    groups: int = typer.Option(None, min=1, help="Of this many groups (with --images)."),
    prepared: Path = typer.Option(Path("data/prepared"), help="What prepare wrote, if it ran."),
    params_file: Path = params.OPTION,
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Print what a run of `params.yaml` will cost on this machine."""
    given = checked(params_file)
    values = given.values
    if groups is not None and (images is None or groups > images):
        raise UserError("--groups goes with --images, and is at most as many")
    if images is not None:
        world = imagined(values, images, groups or images // 5 or 1)
    else:
        world = counted(given, prepared)
    if world.groups < values["fuse"]["batch"]:
        raise UserError(
            f"{params_file}: fuse.batch is {values['fuse']['batch']} but there are about "
            f"{world.groups} training groups; set it to at most that"
        )
    trial, dims, sizes, stand_ins = tried(given, world, calibrate, seconds)
    plan = estimate.plan(values, world, trial, dims, sizes)
    plan["stand_ins"] = stand_ins
    console.result(files.to_json(plan).rstrip() if json else as_text(plan, world, values))


def checked(path: Path) -> params.Parameters:
    """All of params.yaml, every section and entry by its own class."""
    given = params.read(path)
    if bad := [what for good, what in check_params.forms(given) if good is False]:
        raise UserError("\n".join(bad))
    return given


def counted(given: params.Parameters, prepared: Path) -> World:
    """From what `prepare` wrote, else from the dataset's settings or listing."""
    file = prepared / "train.h5"
    if not file.is_file():
        try:
            return listed(given)
        except UserError as error:
            raise UserError(f"{error}; or plan for --images N --groups M") from None
    train = TrainSet.read(file)
    sets = [EvaluationSet.read(prepared / "evaluation" / f"{s}.h5") for s in given.evaluation]
    aside = 0
    if (prepared / "validation.h5").is_file():
        aside = len(EvaluationSet.read(prepared / "validation.h5").image_id)
    some = [train.file(i) for i in range(0, len(train.path), max(len(train.path) // 64, 1))]
    return World(
        len(train.path), len(train.view_image), int(batches.units(train.group).max()) + 1, aside,
        sum(len(s.image_id) for s in sets), str(file), some,
    )  # fmt: skip


def listed(given: params.Parameters) -> World:
    """From the datasets themselves; those that draw their images say what they would draw."""
    from tempfile import TemporaryDirectory

    from ... import datasets

    asked, files, to_draw = 0, [], False
    name = given.training_set
    with TemporaryDirectory() as folder:
        module, settings = datasets.load(name, "training", given)
        if hasattr(module, "planned"):
            group, to_draw = module.planned(settings)[0], True
        else:
            found = module.training(settings, Path(folder))
            group = found.group
            files = [found.root / p for p in found.path[:: max(len(found.path) // 64, 1)]]
        for own, entry in given.evaluation.items():
            module, settings = datasets.load(entry.dataset, "evaluation", given)
            if hasattr(module, "planned"):
                asked += module.planned(settings)[1]
            else:
                asked += len(module.evaluation(settings, Path(folder), own).image_id)
    return split(given.values, group, asked, f"the listing of dataset {name}", files, to_draw)


def imagined(values: dict[str, Any], images: int, groups: int) -> World:
    """So many images in so many groups of one size; nothing to evaluate on is counted."""
    group = np.arange(images) % groups
    return split(values, group, 0, "--images and --groups", [], False)


def split(
    values: dict[str, Any],
    group: np.ndarray,
    asked: int,
    source: str,
    files: list[Path],
    to_draw: bool,
) -> World:
    """What is left to train on once groups are set aside, and its views, about."""
    p = values["prepare"]
    several = views.group_sizes(group) > 1
    kept = np.where(several, 1 - p["validation_share"], 1.0)  # of each image, on average
    alone = np.full(len(group), -1)
    labelled, loose = (
        views.expected_counts(g, epochs=p["epochs"], most=p["views"]) for g in (group, alone)
    )
    share = np.where(group >= 0, p["labelled_share"], 0.0)
    count = float((kept * (share * labelled + (1 - share) * loose)).sum())
    units = kept * (share / views.group_sizes(group) + (1 - share))
    images = float(kept.sum())
    return World(
        round(images), round(count), round(float(units.sum())), round(len(group) - images),
        asked, f"{source}; about", files, to_draw,
    )  # fmt: skip


def tried(
    given: params.Parameters, world: World, calibrate: bool, seconds: float
) -> tuple[Trial | None, dict[str, int], dict[str, int], list[str]]:
    """(times or None, dimensions of each teacher, bytes of the student, teachers not at hand)."""
    values, trial = given.values, Trial()
    trial.start = machine_trial.load_torch()
    share = seconds / (len(given.kinds) + 3)
    dims: dict[str, int] = {}
    absent = []
    teachers = {name: given.teacher(name) for name in given.kinds}
    for name, settings in teachers.items():
        if (ready := machine_trial.ready_dim(settings)) is not None:
            dims[name] = ready
            continue
        own = machine_trial.teacher(settings, given.place(f"teachers.{name}"))
        dims[name] = UNKNOWN_DIM if own.stand_in else own.dim
        absent += [name] if own.stand_in else []
        if calibrate:
            machine_trial.note(name)
            batch = values["extract"]["batch"]
            trial.view[name] = machine_trial.view_seconds(own.net, settings.image_px, batch, share)
    p, fuse = values["train"], values["fuse"]
    student = machine_trial.student(given.student, fuse["dim"], p)
    if not calibrate:
        return None, dims, {"student": 4 * student.parameters}, absent
    machine_trial.note("training steps")
    trial.step = machine_trial.step_seconds(student.net, p["view_px"], fuse["batch"], share)
    trial.resident = machine_trial.resident()
    machine_trial.note("images and arithmetic")
    px = max(s.image_px for s in teachers.values()) or p["view_px"]
    trial.load = machine_trial.load_seconds(world.files, world.views / world.images, px, share)
    trial.operations = machine_trial.operations(min(share, 2.0))
    if world.to_draw:
        from ... import datasets

        module, settings = datasets.load(given.training_set, "training", given)
        trial.draw, trial.image_bytes = machine_trial.draw(module, settings)
    return trial, dims, {"student": 4 * student.parameters}, absent


def as_text(plan: dict[str, Any], world: World, values: dict[str, Any]) -> str:
    """The plan for people."""
    n, passes = plan["counts"], plan["passes"]
    lines = [
        f"{n['images']:,} training images in {n['groups']:,} groups, {n['views']:,} stored "
        f"views; {n['evaluation']:,} evaluation images ({world.source})",
        f"{n['epochs']} epochs of {n['steps']:,} batches of {n['batch']} pairs: a view is trained "
        f"on {n['uses']:.1f} times",
        "",
        f"teacher passes   {passes['offline']:,} once ({len(values['ensemble'])} teachers of the "
        f"ensemble); the online method needs "
        f"{passes['online']:,} in every training",
        f"                 {saved_words(passes)}; another student, fusion or seed: none at all "
        f"instead of {passes['online']:,}",
        f"targets          fused shards {size(plan['shards'])}, whitened features "
        f"{size(plan['whitened'])}; shards are the smaller up to "
        f"2TD/B = {plan['break_even']:.1f} uses of a view: here {plan['smaller']} are",
        "",
        "disk",
    ]
    lines += [f"  {what:28}{size(b):>10}" for what, b in plan["disk"].items()]
    lines += [f"  {'total':28}{size(sum(plan['disk'].values())):>10}   in .dvc/cache and linked "
              "from there; twice where the file system cannot link"]  # fmt: skip
    lines += ["", "memory (the largest at a time)"]
    lines += [f"  {what:28}{size(b):>10}" for what, b in plan["memory"].items()]
    lines += ["", "time" if plan["seconds"] else "time: not calibrated"]
    lines += [f"  {what:28}{duration(s):>10}" for what, s in plan["seconds"].items()]
    if plan["seconds"]:
        total = sum(plan["seconds"].values())
        lines.append(f"  {'total':28}{duration(total):>10}   on {runtime.device()}, about")
    if plan["stand_ins"]:
        lines.append(
            f"no weights here for {', '.join(plan['stand_ins'])}: {UNKNOWN_DIM} dimensions are "
            f"assumed and a {machine_trial.STAND_IN} stands in (`whiten-mtd doctor` says where to "
            "get them)"
        )
    return "\n".join(lines)


def saved_words(passes: dict[str, int]) -> str:
    """What the first training saves, or that it saves nothing."""
    if passes["saved"] > 0:
        return (
            f"saved by the first training: {passes['saved']:,} "
            f"({passes['online'] / passes['offline']:.1f} times as many online)"
        )
    return (
        f"the first training saves none: {-passes['saved']:,} more views are stored than it uses "
        "(prepare.views or prepare.epochs is high for train.epochs)"
    )


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in ("B", "kB") else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    console.main(app)
