"""One self-contained page of a run: what the student is worth, what it costs, where it fails.

    whiten-mtd report OUT.html [--exp EXPERIMENT ...]

Reads the files of the finished run in this folder, and those of DVC experiments by name. The page
holds its images and has no script: it reads the same offline, anywhere.
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
        Path("comparison/comparison.csv"), help="The table of `whiten-mtd compare`, if there."
    ),
    speed: bool = typer.Option(True, help="Time networks that were not timed here before."),
    params_file: Path = params.OPTION,
) -> None:
    """Write the page of the run in this folder."""
    pages.is_page(out)
    if more and not exp:
        raise UserError(f"unexpected {more[0]!r}; experiments come after --exp")
    run = runs.workspace(params_file)
    others = [runs.experiment(name) for name in dict.fromkeys((*exp, *(more or [])))]
    costs = timed([run, *others], speed)
    page = {
        "title": title(run), "sets": [section(run, others, data, costs) for data in run.metrics],
        "flow": evidence.flow(run), "fusion": fusion(run), "curves": curves([run, *others]),
        "steps": training(run), "experiments": [experiment(o, run) for o in others],
        "comparison": compared(comparison), "machine": latency.machine(), "about": about(run),
    }  # fmt: skip
    pages.write(out, "report.html", **page)
    console.result(f"{out} ({out.stat().st_size / 1e6:.1f} MB)")


def title(run: Run) -> dict[str, Any]:
    """The name of the student and the sentence at the top."""
    data = next(iter(run.metrics))
    difficulty = run.main_difficulty(data)
    scores = run.metrics[data]
    student = scores["student"][difficulty]["map"]
    white = {t: s["whitened"][difficulty]["map"] for t, s in scores.items() if "whitened" in s}
    best = max(white, key=lambda t: white[t])
    return {
        "student": run.config["model"], "data": data, "difficulty": difficulty, "map": student,
        "untrained": scores["untrained"][difficulty]["map"], "best": best, "teacher": white[best],
        "ensemble": scores["ensemble"][difficulty]["map"], "dim": run.config["dim"],
    }  # fmt: skip


def section(run: Run, others: list[Run], data: str, costs: Known) -> dict[str, Any]:
    """One evaluation set: table, trade-off image, distributions, queries."""
    from . import charts

    difficulty = run.main_difficulty(data)
    rows = table(run, data, costs)
    points = [_point(r, difficulty, r["role"]) for r in rows if r["role"]]
    for other in others:
        if difficulty in other.metrics.get(data, {}).get("student", {}):
            mine = next(r for r in table(other, data, costs) if r["label"] == "student")
            points.append(_point({**mine, "label": other.name}, difficulty, "experiment"))
    drawn = PLOTS / data / "similarities.png"
    return {
        "name": data, "rows": rows, "difficulties": run.difficulties(data), "main": difficulty,
        "tradeoff": charts.tradeoff(points, f"{data} {difficulty}"),
        "similarities": pages.data_uri(drawn.read_bytes(), "image/png") if drawn.is_file() else "",
        "queries": evidence.queries(run, data, difficulty), "print": run.fingerprint(data),
        "rules": run.rules[data]["student"],
        "measured": any(r["ms"] for r in rows),
    }  # fmt: skip


def _point(row: dict[str, Any], difficulty: str, drawn_as: str) -> "Point":
    """A row of the table as a point of the trade-off image."""
    from .charts import Point

    return Point(
        row["label"].removesuffix(" whitened"), row["scores"][difficulty]["map"], row["ms"],
        row["parameters"], row["bytes"], drawn_as,
    )  # fmt: skip


def fusion(run: Run) -> dict[str, Any]:
    """Who wins the max and the min, drawn."""
    from . import charts

    found = evidence.fusion(run)
    if not found["missing"]:
        won = found["won"]
        found["image"] = charts.winners(found["teachers"], won.highest, won.lowest)
    return found


def curves(runs: list[Run]) -> str:
    """Training curves of all runs."""
    from . import charts

    return charts.curves([(r.name, r.history, int(r.config.get("step", -1))) for r in runs])


def training(run: Run) -> dict[str, Any]:
    """The words to the curves: steps, the step that is kept, validation before and at it."""
    seen = {int(h["step"]): h["validation_map"] for h in run.history if "validation_map" in h}
    return {
        "steps": run.config.get("steps"), "step": run.config.get("step"), "start": seen.get(0),
        "best": run.config.get("validation_map"), "init": run.config.get("init"),
    }  # fmt: skip


def experiment(other: Run, base: Run) -> dict[str, Any]:
    """An experiment beside this run: what was changed, what came of it."""
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
    return {"name": other.name, "changes": runs.differences(other, base), "sets": sets}


def compared(path: Path) -> dict[str, Any] | None:
    """The table of `whiten-mtd compare`; None where it was not run."""
    if not path.is_file():
        return None
    with open(path, encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    if not rows or "recipe" not in rows[0]:
        raise UserError(f"{path}: not the table of `whiten-mtd compare`; run it again")
    names = [k for k in rows[0] if f"{k}_spread" in rows[0]]
    try:
        cells = [
            {n: [float(r[n + e]) for e in ("", "_spread", "_low", "_high")] for n in names}
            for r in rows
        ]
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: a number is missing or damaged; run compare again") from None
    return {"names": names, "rows": list(zip(rows, cells, strict=True)), "path": str(path)}


def about(run: Run) -> dict[str, Any]:
    """What this page is of: settings and their digest, commit, versions, the time it was made."""
    return {
        "params": files.to_json(run.params), "settings": files.digest_of(run.params)[:12],
        "student": run.config.get("digest"), "commit": commit(), "made": time.strftime("%F %H:%M"),
        "versions": [(name, v) for name in VERSIONS if (v := _version(name))],
    }  # fmt: skip


def commit() -> str:
    """The git commit, and whether files differ from it; empty outside a repository."""
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
