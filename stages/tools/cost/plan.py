"""What a run will cost before it starts: disk, teacher passes, memory, hours.

    whiten-mtd plan

Counts from `params.yaml` and from what `prepare` wrote; where nothing was prepared, from the
dataset's own settings or lists. A short trial times this machine; `--no-time` leaves it and the
hours out.
"""

from pathlib import Path
from typing import Any

import typer

from ...core import console, files, machine, params, runtime
from ...core.errors import UserError
from ...fuse import BLOCK_ROWS as FUSE_ROWS
from ...whiten import BLOCK_ROWS as WHITEN_ROWS
from .. import check_params
from . import estimate, machine_trial
from . import world as worlds
from .machine_trial import Trial
from .world import World

app = console.app()
UNKNOWN_DIM = machine_trial.STAND_IN_DIM
BLOCK_ROWS = {"whiten": WHITEN_ROWS, "fuse": FUSE_ROWS}


@app.command()
def main(
    time: bool = typer.Option(True, help="Time this machine, for the hours."),
    seconds: float = typer.Option(30.0, min=1, max=3600, help="How long to time it, about."),
    images: int = typer.Option(None, min=2, help="Plan for this many training images."),
    groups: int = typer.Option(None, min=1, help="Of this many groups (with --images)."),
    prepared: Path = typer.Option(Path("data/prepared"), help="What prepare wrote, if it ran."),
    params_file: Path = params.OPTION,
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Print what a run of `params.yaml` will cost on this machine."""
    given, load = checked(params_file), machine.load()  # before torch adds to it
    values = given.values
    if groups is not None and (images is None or groups > images):
        raise UserError("--groups goes with --images, and is at most as many")
    if images is not None:
        world = worlds.imagined(values, images, groups or images // 5 or 1)
    else:
        world = worlds.counted(given, prepared)
    if world.groups < values["fuse"]["batch"]:
        raise UserError(
            f"{params_file}: fuse.batch is {values['fuse']['batch']} but there are about "
            f"{world.groups} training groups; set it to at most that"
        )
    trial, dims, sizes, stand_ins = tried(given, world, time, seconds)
    plan = estimate.plan(values, world, trial, dims, sizes, BLOCK_ROWS)
    plan["stand_ins"] = stand_ins
    plan["load"], plan["busy"] = load, machine.busy(load) if trial else ""
    console.result(files.to_json(plan).rstrip() if json else as_text(plan, world, values))


def checked(path: Path) -> params.Parameters:
    """All of params.yaml, every section and entry by its own class."""
    given = params.read(path)
    if bad := [what for good, what in check_params.forms(given) if good is False]:
        raise UserError(*bad)
    return given


def tried(
    given: params.Parameters, world: World, time: bool, seconds: float
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
        if time:
            machine_trial.note(name)
            batch = values["extract"]["batch"]
            trial.view[name] = machine_trial.view_seconds(own.net, settings.image_px, batch, share)
    p, fuse = values["train"], values["fuse"]
    student = machine_trial.student(given.student, fuse["dim"], p)
    if not time:
        return None, dims, {"student": 4 * student.parameters}, absent
    machine_trial.note("training steps")
    trial.step = machine_trial.step_seconds(student.net, p["view_px"], fuse["batch"], share)
    trial.resident = machine_trial.resident()
    machine_trial.note("images and arithmetic")
    px = max(s.image_px for s in teachers.values()) or p["view_px"]
    trial.load = machine_trial.load_seconds(world.files, world.views / world.images, px, share)
    trial.operations = machine_trial.operations(min(share, 2.0))
    return trial, dims, {"student": 4 * student.parameters}, absent


def as_text(plan: dict[str, Any], world: World, values: dict[str, Any]) -> str:
    """The plan for people."""
    n, passes = plan["counts"], plan["passes"]
    frames = f" of {n['described']:,} frames" if world.videos else ""
    lines = [
        f"{n['images']:,} training {world.noun} in {n['groups']:,} groups, {n['views']:,} stored "
        f"views; {n['evaluation']:,} evaluation {world.noun}{frames} ({world.source})",
        *(f"  {note}" for note in world.notes),
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
    lines += ["", "time" if plan["seconds"] else "time: not measured"]
    lines += [f"  {what:28}{duration(s):>10}" for what, s in plan["seconds"].items()]
    if plan["seconds"]:
        total = sum(plan["seconds"].values())
        lines.append(f"  {'total':28}{duration(total):>10}   on {runtime.device()}, about")
        if plan["busy"]:
            lines.append(f"times {plan['busy']}")
        if not world.files:
            lines.append("reading images is not in it: there are none yet to time it on")
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
