"""What describing an image costs on this machine: milliseconds, measured once and kept.

The time is that of the network alone, one image at a time at all its scales; reading the image is
not included. It depends on the architecture and not on the weights, so networks of one architecture
share a measurement. Kept in `data/speed.json`, per machine.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core import console, files, runtime, stopwatch
from ...core import machine as hardware
from ...core.errors import UserError

if TYPE_CHECKING:
    from torch import nn

FILE = Path("data/speed.json")
ROUNDS, WARM = 9, 2  # timings of each network, the first ones not counted
Spec = dict[str, Any]  # what to build, and at which px and scales it runs


def machine() -> str:
    """The processor (or GPU) and how many cores this process may use."""
    device = hardware.device_name()
    return f"{hardware.processor()}, {hardware.cores()} cores{f', {device}' if device else ''}"


def of_student(config: dict[str, Any], px: int, scales: str) -> Spec:
    """The spec of a student, from its config.json."""
    keys = ("model", "dim", "head", "pool", "gem_p")
    return {"student": {k: config[k] for k in keys}, "px": px, "scales": scales}


def of_teacher(settings: dict[str, Any], px: int, scales: str) -> Spec:
    """The spec of a teacher, from its map in params.yaml."""
    left = ("image_px", "license", "sha256")
    kept = {k: v for k, v in settings.items() if k not in left}
    return {"teacher": kept, "px": px, "scales": scales}


def known(specs: Iterable[Spec], file: Path = FILE) -> dict[str, dict[str, float]]:
    """What was measured on this machine: digest of a spec -> ms, parameters, load before."""
    table = files.read_json(file) if file.is_file() else {}
    of_machine = table.get(machine(), {}) if isinstance(table, dict) else {}
    return {d: of_machine[d] for d in map(files.digest_of, specs) if d in of_machine}


def measured(specs: Iterable[Spec], file: Path = FILE) -> dict[str, dict[str, float]]:
    """`known`, after measuring what is missing; in turn, so that other work slows all alike.

    What was measured on a busy machine is measured again once it is free.
    """
    load = hardware.load()
    by_digest = {files.digest_of(s): s for s in specs}
    costs = known(by_digest.values(), file)
    if not hardware.is_busy(load):
        costs = {d: c for d, c in costs.items() if not hardware.is_busy(c.get("load", 0.0))}
    nets = {d: n for d, s in by_digest.items() if d not in costs and (n := _built(s)) is not None}
    if not nets:
        return costs
    console.say(f"timing {len(nets)} networks, once; kept in {file}")
    works = [_description(net, by_digest[digest]) for digest, net in nets.items()]
    for (digest, net), seconds in zip(
        nets.items(), stopwatch.in_turn(works, ROUNDS, WARM), strict=True
    ):
        costs[digest] = {
            "ms": round(1000 * seconds, 2),
            "parameters": sum(p.numel() for p in net.parameters()),
            "load": load,
        }
    table = files.read_json(file) if file.is_file() else {}
    table[machine()] = {**table.get(machine(), {}), **costs}
    files.write_text(file, files.to_json(table))
    return costs


def busy(costs: Iterable[dict[str, float]]) -> str:
    """That some of these were measured on a busy machine, and how to measure again; or nothing."""
    words = hardware.busy(max((c.get("load", 0.0) for c in costs), default=0.0))
    return f"{words}; the next report on a free one measures again" if words else ""


def _built(spec: Spec) -> "nn.Module | None":
    """The network of a spec, with random weights where possible; None where it cannot be built."""
    from ...nets import embed

    try:
        net = _student(spec["student"]) if "student" in spec else _teacher(spec["teacher"])
    except UserError as error:
        console.say(f"not timed: {str(error).splitlines()[0]}")
        return None
    return embed.ready(net, runtime.device())


def _student(config: dict[str, Any]) -> "nn.Module":
    from ...distill.student import Student

    dim = config["dim"] if config["head"] else None
    return Student(
        config["model"], dim=dim, image_px=0, pool=config["pool"], gem_p=config["gem_p"]
    ).eval()


def _teacher(settings: dict[str, Any]) -> "nn.Module":
    from ... import teachers

    values = {**settings, "image_px": 224}
    if values["kind"] == "any_timm":
        values["weights"] = "random"
    return teachers.load(values["kind"], values, "teachers")


def _description(net: "nn.Module", spec: Spec) -> stopwatch.Work:
    """One image through `net` at all scales, to be timed."""
    import torch

    from ...nets import embed

    device = next(net.parameters()).device
    x = torch.rand(1, 3, max(round(0.75 * spec["px"]), 1), spec["px"], device=device)
    scales = [float(s) for s in spec["scales"].split()]

    def work() -> None:
        with torch.inference_mode():
            embed.describe(net, x, scales).cpu()  # to main memory, which waits for the device

    return work
