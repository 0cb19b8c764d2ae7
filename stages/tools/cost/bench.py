"""Speed as ratios: what a stage costs against the bare work in it, measured in turn in one run.

    whiten-mtd bench

Every row times two things alternately and compares their medians, so that a busy machine slows
both: a function of the stage itself, on small generated inputs, and the bare work that it cannot do
without.
"""

import json as json_module
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import typer

from ...core import console, machine, stopwatch
from ...core.errors import UserError
from ...core.plugins import nearest
from . import bench_arithmetic as arithmetic
from . import bench_networks as networks
from .timing import Row

app = console.app()


@app.command()
def main(
    only: list[str] = typer.Option([], help="Only these rows."),
    times: int = typer.Option(5, min=1, help="Runs of each."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Measure every ratio that this machine can and print a table."""
    if odd := [name for name in only if name not in ROWS]:
        raise UserError(f"no row {odd[0]!r}{nearest(odd[0], ROWS)}: choose from {', '.join(ROWS)}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in only or ROWS:
            if row := ROWS[name](Path(folder), times):
                rows.append(row)
                console.say(f"{name}: {row.ratio:.2f}")
    about = this_machine()
    if json:
        table = [{**asdict(r), "ratio": r.ratio} for r in rows]
        console.result(json_module.dumps({"machine": about, "rows": table}, indent=1))
        return
    console.result("\n".join(f"{what:10} {value}" for what, value in about.items()) + "\n")
    console.result("| stage | against | seconds | bare | ratio | goal |\n|---|---|---|---|---|---|")
    for r in rows:
        console.result(
            f"| {r.what} | {r.against} | {r.seconds:.3f} | {r.bare:.3f} | {r.ratio:.2f} "
            f"| {r.goal} |"
        )


def this_machine() -> dict[str, str]:
    """What the ratios depend on: processor, cores, how busy it is, when."""
    load = " ".join(f"{x:.2f}" for x in os.getloadavg())
    return {
        "processor": machine.processor(), "cores": str(machine.cores()),
        "load": f"{load} (1, 5, 15 minutes)", "date": time.strftime("%F"),
    }  # fmt: skip


def no_op(folder: Path, times: int) -> Row | None:
    """`dvc repro` of a finished run, in seconds (against one second)."""
    command = [sys.executable, "-m", "dvc", "repro"]
    dry = subprocess.run([*command, "--dry"], capture_output=True, text=True)
    if dry.returncode or "Running stage" in dry.stdout:  # it fails where nothing was ever run
        console.say("no-op: left out, `dvc repro` has something to do here; `dvc repro` first")
        return None
    (spent,) = stopwatch.in_turn(
        [lambda: subprocess.run(command, check=True, capture_output=True)], times=3, warm=0
    )
    return Row("dvc repro, nothing to do", "one second", spent, 1.0, "<= 2")


ROWS: dict[str, Callable[[Path, int], Row | None]] = {
    "extract": networks.extract, "whiten": arithmetic.whiten, "fuse": arithmetic.fuse,
    "prototypes": arithmetic.prototypes, "train": networks.train, "online": networks.online,
    "validation": networks.validation, "rank": arithmetic.rank,
    "rank-random": arithmetic.rank_random, "video": arithmetic.video,
    "no-op": no_op,
}  # fmt: skip

if __name__ == "__main__":
    console.main(app)
