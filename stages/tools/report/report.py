"""One self-contained page about a run: how good the student is, what it costs, where it fails.

    whiten-mtd report OUT.html [--exp EXPERIMENT ...]

Reads the files of the finished run in this folder, and those of DVC experiments by name. The page
contains its images and has no script: it looks the same offline and on any machine.
"""

import csv
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ...core import console, files, params
from ...core.errors import UserError
from .. import pages
from . import evidence, latency, runs
from .runs import Run
from .table import Known, table, timed

if TYPE_CHECKING:
    from .charts import Point

app = console.app()
PLOTS = Path("data/results/plots")
VERSIONS = ("whiten-mtd", "torch", "timm", "numpy", "dvc")


@app.command()
def main(
    out: Path = typer.Argument(help="The page to write, such as report.html."),
    more: list[str] = typer.Argument(None, help="Further experiments, after --exp A."),
    exp: list[str] = typer.Option([], help="DVC experiments to set beside this run."),
    comparison: Path = typer.Option(
        Path("comparison/comparison.csv"), help="The table that `whiten-mtd compare` wrote, if any."
    ),
    speed: bool = typer.Option(True, help="Time the networks not yet timed on this machine."),
    params_file: Path = params.OPTION,
) -> None:
    """Write the page about the run in this folder."""
    pages.is_page(out)
    if more and not exp:
        raise UserError(f"unexpected {more[0]!r}; experiments come after --exp")
    run = runs.workspace(params_file)
    others = [runs.experiment(name) for name in dict.fromkeys((*exp, *(more or [])))]
    costs = timed([run, *others], speed)
    page = {
        "title": title(run), "sets": [section(run, others, data, costs) for data in run.metrics],
        "flow": evidence.flow(run), "chosen": evidence.whitening(run.params["teachers"]),
        "fusion": fusion(run), "curves": curves([run, *others]),
        "steps": training(run), "experiments": [experiment(o, run) for o in others],
        "comparison": compared(comparison), "machine": latency.machine(), "about": about(run),
        "busy": latency.busy(costs.values()),
    }  # fmt: skip
    pages.write(out, "report.html", **page)
    console.result(f"{out} ({out.stat().st_size / 1e6:.1f} MB)")


def title(run: Run) -> dict[str, Any]:
    """The figures of the headline and of the paragraph and tiles below it."""
    data = next(iter(run.metrics))
    difficulty = run.main_difficulty(data)
    scores = run.metrics[data]
    student = scores["student"][difficulty]["map"]
    whitened = {t: s["whitened"][difficulty]["map"] for t, s in scores.items() if "whitened" in s}
    best = max(whitened, key=lambda t: whitened[t])
    bare = run.config.get("shipped") == "untrained head"
    return {
        "student": run.config["model"], "data": data, "difficulty": difficulty, "map": student,
        "untrained": scores["untrained"][difficulty]["map"],
        "best": best, "teacher": whitened[best],
        "ensemble": scores["ensemble"][difficulty]["map"], "dim": run.config["dim"],
        "teachers": len(run.params["ensemble"]), "bare": bare,
        "start_is_kept": run.config.get("step") == 0 and not bare, "start": start_of(run),
        "no_steps": run.no_steps,
    }  # fmt: skip


def section(run: Run, others: list[Run], data: str, costs: Known) -> dict[str, Any]:
    """One evaluation set: table, trade-off plot, distributions of similarities, queries."""
    from . import charts

    difficulty = run.main_difficulty(data)
    rows = table(run, data, costs)
    points = [_point(r, difficulty, r["role"]) for r in rows if r["role"]]
    for other in others:
        if difficulty in other.metrics.get(data, {}).get("student", {}):
            student = next(r for r in table(other, data, costs) if r["label"] == "student")
            points.append(_point({**student, "label": other.name}, difficulty, "experiment"))
    similarities = PLOTS / data / "similarities.png"
    return {
        "name": data, "rows": rows, "difficulties": run.difficulties(data), "main": difficulty,
        "tradeoff": charts.tradeoff(points, f"{data} {difficulty}"),
        "similarities": (
            pages.data_uri(similarities.read_bytes(), "image/png") if similarities.is_file() else ""
        ),
        "queries": evidence.queries(run, data, difficulty), "fingerprint": run.fingerprint(data),
        "rules": run.rules[data]["student"],
        "measured": any(r["ms"] for r in rows), "labels": [r["label"] for r in rows],
    }  # fmt: skip


def _point(row: dict[str, Any], difficulty: str, role: str) -> "Point":
    """A row of the table as a point of the trade-off plot, drawn as `role`."""
    from .charts import Point

    return Point(
        row["label"].removesuffix(" whitened"), row["scores"][difficulty]["map"], row["ms"],
        row["parameters"], row["bytes"], role,
    )  # fmt: skip


def fusion(run: Run) -> dict[str, Any]:
    """Which teacher is the max and which the min of the fused targets, with a plot."""
    from . import charts

    shares = evidence.fusion(run)
    if not shares["missing"]:
        won = shares["won"]
        shares["plot"] = charts.winners(shares["teachers"], won.highest, won.lowest)
    return shares


def curves(runs: list[Run]) -> str:
    """Training curves of all runs."""
    from . import charts

    return charts.curves([(r.name, r.history, int(r.config.get("step", -1))) for r in runs])


def training(run: Run) -> dict[str, Any]:
    """The text beside the curves: where training started, how long, and what it brought."""
    validation = {int(h["step"]): h["validation_map"] for h in run.history if "validation_map" in h}
    return {
        "steps": run.config.get("steps"), "step": run.config.get("step"), "start": start_of(run),
        "start_map": validation.get(0), "kept_map": run.config.get("validation_map"),
        "kept_error": run.config.get("validation_error"), "share": run.config.get("share"),
        "shipped": run.config.get("shipped", "trained"), "path": run.config.get("path", []),
    }  # fmt: skip


def start_of(run: Run) -> str:
    """What step 0 of training is, in words."""
    weights = "random weights" if run.config.get("init") == "random" else "pretrained weights"
    if not run.config.get("head"):
        return f"the untrained network ({weights})"
    if run.params["train"].get("head") == "ridge":
        return f"the ridge start ({weights}, and a head fitted by ridge regression, no step yet)"
    return f"the random start ({weights}, and a head of random weights, no step yet)"


def experiment(other: Run, base: Run) -> dict[str, Any]:
    """An experiment beside this run: the settings that differ, and the scores."""
    sets = []
    for data in other.metrics:
        if data not in base.metrics:
            continue
        difficulty = base.main_difficulty(data)
        sets.append(
            {
                "name": data, "difficulty": difficulty,
                "scores": [
                    (d, other.metrics[data]["student"][d]["map"]) for d in other.difficulties(data)
                ],
                "gain": runs.gain(other, base, data, difficulty),
                "comparable": other.fingerprint(data) == base.fingerprint(data),
            }
        )  # fmt: skip
    changes = runs.differences(other, base)
    return {"name": other.name, "changes": changes, "sets": sets, "no_steps": other.no_steps}


def compared(path: Path) -> dict[str, Any] | None:
    """The table that `whiten-mtd compare` wrote; None where there is none."""
    if not path.is_file():
        return None
    with open(path, encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    if not rows or "recipe" not in rows[0]:
        raise UserError(f"{path}: not a table that `whiten-mtd compare` wrote; run compare again")
    names = [k for k in rows[0] if f"{k}_spread" in rows[0]]
    try:
        cells = [
            {
                n: [float(r[n + e]) for e in ("", "_spread", "_low", "_high")]
                for n in names
                if r[n] or not n.endswith(" trained")  # of the student alone
            }
            for r in rows
        ]
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: a number is missing or damaged; run compare again") from None
    return {"names": names, "rows": list(zip(rows, cells, strict=True)), "path": str(path)}


def about(run: Run) -> dict[str, Any]:
    """Where the page comes from: settings and their digest, commit, versions, date."""
    return {
        "params": files.to_json(run.params), "settings": files.digest_of(run.params)[:12],
        "student": run.config.get("digest"), "commit": commit(), "made": time.strftime("%F %H:%M"),
        "versions": [(name, v) for name in VERSIONS if (v := _version(name))],
    }  # fmt: skip


def commit() -> str:
    """The git commit, `-dirty` where files differ from it; empty outside a repository."""
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True)
    except FileNotFoundError:
        return ""
    return done.stdout.decode().strip() if done.returncode == 0 else ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    console.main(app)
