"""From counts and a trial of the machine to a plan: disk, passes, memory, seconds by stage."""

from pathlib import Path
from typing import Any

from ...core import machine, runtime
from ...images.replay import CACHE_BYTES
from ...images.scales import how_of
from ...retrieval.rank import HELD_BYTES
from . import budget
from .machine_trial import Trial
from .world import World

ROW_BYTES = 80  # of an image's id and path in a file, about
NATIVE_PX = 1024  # long side of images that are described as they are, about
LINES = 2_000_000  # bytes of scores, images of plots and texts, about
PHOTO_RATIO = 0.75  # short side of an image by its long side, about
NATIVE = PHOTO_RATIO * NATIVE_PX**2  # pixels of such an image


def plan(
    values: dict[str, Any],
    world: World,
    trial: Trial | None,
    dims: dict[str, int],
    sizes: dict[str, int],
    block_rows: dict[str, int],
) -> dict[str, Any]:
    """Everything `plan` prints, as plain maps. `dims`: each teacher's own; `sizes`: bytes;
    `block_rows`: descriptors that a stage holds at a time."""
    fuse, train = values["fuse"], values["train"]
    out = {t: _whitened(values["whiten"], t, d) for t, d in dims.items()}
    ensemble = [out[t] for t in values["ensemble"]]
    steps = world.groups // fuse["batch"]
    passes = budget.passes(
        teachers=len(ensemble), views=world.views, batch=fuse["batch"],
        steps=steps * train["epochs"],
    )  # fmt: skip
    uses = budget.uses(views=world.views, batch=fuse["batch"], steps=steps * fuse["epochs"])
    shards = budget.shard_bytes(
        batch=fuse["batch"], steps=steps * (fuse["epochs"] + fuse["held_out_epochs"])
    )
    stored = budget.feature_bytes(world.views, ensemble)
    return {
        "counts": {
            "images": world.images, "groups": world.groups, "views": world.views,
            "evaluation": world.evaluation, "described": world.described,
            "epochs": train["epochs"], "steps": steps, "batch": fuse["batch"], "uses": uses,
        },
        "passes": {"offline": passes.offline, "online": passes.online, "saved": passes.saved},
        "break_even": budget.break_even(ensemble, fuse["batch"]),
        "shards": shards, "whitened": stored,
        "smaller": "shards" if shards < stored else "stored features",
        "disk": disk(values, world, dims, out, sizes, shards),
        "memory": memory(values, world, trial, dims, ensemble, block_rows),
        "seconds": seconds(values, world, trial, dims, out, steps) if trial else {},
    }  # fmt: skip


def disk(
    values: dict[str, Any],
    world: World,
    dims: dict[str, int],
    out: dict[str, int],
    sizes: dict[str, int],
    shards: int,
) -> dict[str, float]:
    """Bytes by kind of file."""
    fuse, n = values["fuse"], world.described
    listed = world.images + world.validation + world.evaluation
    described = [*dims.values(), fuse["dim"], max(dims.values())]
    frame = fuse["dim"] * (sum(out[t] for t in values["ensemble"]) + 1)
    prototypes = 2 * world.groups * fuse["dim"] + 4 * world.views
    return {
        "images that prepare makes": world.made_bytes,
        "prepared lists and views": listed * ROW_BYTES + 24 * world.views,
        "features": budget.feature_bytes(world.views, [*dims.values()]),
        "extract, for a while": budget.feature_bytes(world.views, [max(dims.values())]),
        "whitening": 8.0 * (sum(out[t] * (d + 1) + d for t, d in dims.items()) + frame),
        "whitened features": budget.feature_bytes(world.views, [*out.values()]),
        "fused targets, prototypes": shards + prototypes,
        "student, untrained": 3.0 * sizes["student"],  # its best and its last weights
        "evaluation descriptors": sum(n * (2 * d + ROW_BYTES) for d in described),
        "scores and images": LINES,
    }


def memory(
    values: dict[str, Any],
    world: World,
    trial: Trial | None,
    dims: dict[str, int],
    ensemble: list[int],
    block_rows: dict[str, int],
) -> dict[str, float]:
    """Bytes by stage, beside the interpreter and its libraries."""
    batch, widest = values["fuse"]["batch"], max(dims.values())
    shown = world.views // 2 if world.videos else world.images  # two views of each frame shown
    resident = {"a network at work (measured)": trial.resident} if trial else {}
    return {
        **resident,
        "whiten": 4 * 8 * widest**2 + 3 * 8 * block_rows["whiten"] * widest,
        "fuse": 3 * 4 * block_rows["fuse"] * sum(ensemble) + 4 * (len(ensemble) + 1) * batch**2,
        "train: decoded images kept": min(CACHE_BYTES, shown * 3 * world.pixels(NATIVE)),
        "evaluate": HELD_BYTES + 4 * world.evaluation * widest,
    }


def seconds(
    values: dict[str, Any],
    world: World,
    trial: Trial,
    dims: dict[str, int],
    out: dict[str, int],
    steps: int,
) -> dict[str, float]:
    """Seconds by stage: networks as timed, reading beside them, arithmetic, starts of programs."""
    train, fuse, teachers = values["train"], values["fuse"], values["teachers"]
    load = trial.load or 0.0
    extract = sum(
        trial.start + beside(world.views * trial.view[t], world.views * load)
        for t in teachers
        if t in trial.view
    )
    one = trial.step / (3 * 2 * fuse["batch"])  # of a training view, forward alone
    describe = sum(
        trial.start + world.described * trial.view[t] * _whole(values, t, s["image_px"])
        for t, s in teachers.items()
        if t in trial.view
    )
    for ours in ("student", "untrained"):
        size = _whole(values, ours, train["view_px"], train["image_px"])
        describe += trial.start + world.described * one * size
    whole = one * PHOTO_RATIO * (train["image_px"] / train["view_px"]) ** 2
    measurements = 1 + (steps * train["epochs"] // train["validate_every"] if world.measured and
                    train["validate_every"] else 0)  # fmt: skip
    m, wide = world.views, sum(out[t] for t in values["ensemble"])
    sampled = min(values["whiten"]["samples"], m)
    whiten = sum(
        2 * (sampled * d * d + 10 * d**3) + m * d * out[t] for t, d in dims.items()
    )  # float64 costs twice
    fused = steps * fuse["epochs"] * fuse["batch"] ** 2 * wide + m * wide * fuse["dim"]
    rank = world.described**2 * (sum(dims.values()) + sum(out.values()))
    light = 0.4 * trial.start  # without torch
    return {
        "prepare": light + sum(m.seconds for m in world.made) / max(machine.processes(), 1),
        "extract": extract,
        "whiten": light * len(dims) + whiten / trial.operations,
        "fuse": light + fused / trial.operations,
        "train": trial.start
        + steps * train["epochs"] * beside(trial.step, 2 * fuse["batch"] * load)
        + measurements * world.measured * whole,
        "describe": describe,
        "evaluate": 2 * light + rank / trial.operations,
    }


def beside(network: float, loading: float) -> float:
    """Loading processes work beside the network, and take its cores where it computes on them."""
    workers = machine.workers()
    if runtime.device().type != "cpu" and workers:
        return max(network, loading / workers)
    cores = machine.cores()
    return network + loading / max(min(workers + 1, cores), 1)


def _whole(values: dict[str, Any], model: str, view_px: int, own_px: int | None = None) -> float:
    """What an image at all its scales costs `model`, in views of `view_px` squared."""
    p = values["describe"]
    how = how_of(p["scales"], p["image_px"], model, own_px or view_px, Path("params.yaml"))
    px = how.px or NATIVE_PX
    return PHOTO_RATIO * (px / view_px) ** 2 * sum(s * s for s in how.scales)


def _whitened(p: dict[str, Any], teacher: str, own: int) -> int:
    """Dimensions of a teacher after whitening, at most."""
    if p["method"] == "none":
        return own
    dim = p["dim"][teacher] if isinstance(p["dim"], dict) else p["dim"]
    return own if dim == "auto" else int(min(dim, own))  # auto: all of them, at most
