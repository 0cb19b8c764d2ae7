"""Compare recipes: which makes the best student on these images, over several seeds.

    whiten-mtd compare

Every recipe of `compare.recipes` is first tuned, on one seed and one knob at a time, by its mAP on
the validation groups; then its best setting runs with every seed of `compare.seeds`. All runs are
DVC experiments in a temporary copy, with the same number of steps, and nothing is computed twice.
"""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import typer
from pydantic import Field

from ...core import console, files, params
from ...core.errors import UserError
from ...retrieval import metrics, protocols, scoring_rules
from . import runs
from .runs import Run

app = console.app()


class Recipe(params.Section):
    """One recipe: fixed overrides, and overrides to choose from (as `-S` of DVC writes them)."""

    set: list[str]
    tune: list[str]


class Params(params.Section):
    """Section `compare` of params.yaml."""

    seeds: list[int] = Field(min_length=1)
    models: list[str]
    recipes: dict[str, Recipe]


@app.command()
def main(
    recipe: list[str] = typer.Option([], help="Only these recipes."),
    out: Path = typer.Option(Path("comparison"), help="Folder for the table (CSV, Markdown)."),
    params_file: Path = params.OPTION,
) -> None:
    """Tune every recipe on the validation groups, run it with every seed, print one table."""
    p = params.read(params_file).section("compare", Params)
    chosen = {n: r for n, r in p.recipes.items() if not recipe or n in recipe}
    if unknown := [n for n in recipe if n not in p.recipes]:
        raise UserError(f"no recipe {unknown[0]!r}: choose from {', '.join(p.recipes)}")
    rows: list[dict[str, Any]] = []
    by_recipe: dict[str, list[Run]] = {}
    for name, r in chosen.items():
        best = tuned(name, r, p.seeds[0])
        labels = [experiment((*best, *seeded(seed)), name) for seed in p.seeds]
        by_recipe[name] = [runs.experiment(label) for label in labels]
        rows += list(table_rows(name, best, by_recipe[name], p.models))
        write(out, rows)
        console.say(markdown(rows[-1:]).splitlines()[-1])
    for line in mixed(by_recipe, p.models):
        console.say(line)
    console.result(markdown(rows))
    console.say(f"{out}/comparison.csv, {out}/comparison.md")


def tuned(name: str, recipe: Recipe, seed: int) -> tuple[str, ...]:
    """The recipe's overrides, with the value of each knob of `tune` that validates best.

    One knob after the other; the later ones keep the value of `set` or params.yaml until then.
    """
    chosen = tuple(recipe.set)
    for knob, values in (parsed(t) for t in recipe.tune):
        scores = []
        for value in values:
            overrides = replaced(chosen, knob, value)
            label = experiment((*overrides, *seeded(seed)), name, target="train")
            config = json.loads(artefact(label, "models/student/config.json"))
            if config["trained_validation_map"] is None:
                raise UserError(
                    "compare tunes on validation groups: set prepare.validation_share above 0"
                )
            scores.append(float(config["trained_validation_map"]))
            console.say(f"{name}: {knob}={value}: {scores[-1]:.2f}")
        best = int(np.argmax(scores))
        if best in (0, len(values) - 1) and len(values) > 1:
            console.say(
                f"{name}: {knob}={values[best]} is the first or last value of the list: "
                "values beyond it may be better"
            )
        chosen = replaced(chosen, knob, values[best])
    return chosen


def parsed(tune: str) -> tuple[str, list[str]]:
    """The knob and its values of `knob=value,value`."""
    knob, equals, values = tune.partition("=")
    if not equals:
        raise UserError(f"compare.recipes: tune: {tune!r} is not of the form knob=value,value")
    return knob, values.split(",")


def replaced(overrides: tuple[str, ...], knob: str, value: str) -> tuple[str, ...]:
    """`overrides` with `knob` set to `value`, in its place or at the end."""
    kept = tuple(o for o in overrides if o.partition("=")[0] != knob)
    return (*kept, f"{knob}={value}")


def seeded(seed: int) -> tuple[str, ...]:
    """Overrides of one seed: it changes the batches and the head's random weights."""
    return (f"fuse.seed={seed}", f"train.seed={seed}")


def mixed(runs: dict[str, list[Run]], models: list[str]) -> Iterator[str]:
    """A warning for every set and model whose runs have different scoring rules."""
    all_runs = [(name, r) for name, of_recipe in runs.items() for r in of_recipe]
    for data in all_runs[0][1].rules:
        for model in models:
            all_rules = [
                (n, r.rules[data][model]) for n, r in all_runs if model in r.rules.get(data, {})
            ]
            for name, rules in all_rules[1:]:
                first, first_rules = all_rules[0]
                label = f"{data}, {model}, {first} and {name}"
                if warning := scoring_rules.warning(label, first_rules, rules):
                    yield warning
                    break


def experiment(overrides: tuple[str, ...], name: str, target: str | None = None) -> str:
    """`dvc exp run` in a temporary copy of the project; returns the experiment's name.

    One that exists already is used as it is, so that an interrupted comparison continues.
    """
    slug = "".join(c if c.isalnum() else "-" for c in name)
    label = f"compare-{slug}-{files.digest_of([overrides, target])[:8]}"
    if label in dvc("exp", "list", "--name-only").split():
        return label
    changes = [word for override in overrides for word in ("--set-param", override)]
    dvc("exp", "run", "--temp", "--name", label, *changes, *([target] if target else []))
    return label


def dvc(*command: str) -> str:
    """The output of a DVC command. Raises UserError with its last lines where it fails."""
    done = subprocess.run([sys.executable, "-m", "dvc", *command], capture_output=True, text=True)
    if done.returncode:
        tail = (done.stdout + done.stderr).strip().splitlines()[-12:]
        raise UserError(f"dvc {' '.join(command)} failed:", *tail)
    return done.stdout


def artefact(experiment: str, path: str) -> str:
    """A file of an experiment."""
    from dvc.api import read

    return str(read(path, rev=experiment))


def table_rows(
    name: str, setting: tuple[str, ...], of_recipe: list[Run], models: list[str]
) -> Iterator[dict[str, Any]]:
    """One row per set and model of `models` that the runs scored.

    A difficulty has two columns: what is shipped, and `<difficulty> trained`, what training made
    even where validation refused it. What is not shipped has no asymmetric search.
    """
    for data in of_recipe[0].metrics:
        for model in models:
            scored = [r for r in of_recipe if model in r.metrics[data]]
            if not scored:
                continue
            row: dict[str, Any] = {
                "set": data, "recipe": name, "model": model, "runs": len(scored),
                "setting": " ".join(setting),
            }  # fmt: skip
            for difficulty in protocols.in_order(scored[0].metrics[data][model]):
                row |= column(scored, data, [model] * len(scored), difficulty, difficulty)
                if model == "student":
                    rows = [params.TRAINED if params.TRAINED in r.metrics[data] else model
                            for r in scored]  # fmt: skip
                    row |= column(scored, data, rows, difficulty, f"{difficulty} trained")
            yield row


def column(
    scored: list[Run], data: str, models: list[str], difficulty: str, label: str
) -> dict[str, float]:
    """Mean, spread over seeds and interval over queries of one model (a name by run)."""
    pairs = list(zip(scored, models, strict=True))
    maps = np.array([r.metrics[data][m][difficulty]["map"] for r, m in pairs])
    aps = np.array([list(r.queries[data, m, difficulty].values()) for r, m in pairs]).mean(0)
    low, high = metrics.bootstrap(aps)
    spread = float(maps.std(ddof=1)) if len(maps) > 1 else 0.0
    values = {"": float(maps.mean()), "_spread": spread, "_low": low, "_high": high}
    return {f"{label}{end}": round(value, 2) for end, value in values.items()}


def write(out: Path, rows: list[dict[str, Any]]) -> None:
    """Write comparison.csv and comparison.md, after every recipe anew."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(k for r in rows for k in r)), restval="")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(out / "comparison.csv", buffer.getvalue())
    files.write_text(out / "comparison.md", markdown(rows) + "\n")


def markdown(rows: list[dict[str, Any]]) -> str:
    """mean ± spread over seeds, [95 % interval over queries] of each difficulty."""
    columns = dict.fromkeys(k for row in rows for k in row)
    names = [k for k in columns if f"{k}_spread" in columns]
    lines = [
        "| recipe | scored | " + " | ".join(f"mAP {n}" for n in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for row in rows:
        cells = [
            f"{row[n]:.1f} ± {row[n + '_spread']:.1f} "
            f"[{row[n + '_low']:.1f}, {row[n + '_high']:.1f}]"
            if n in row
            else "-"
            for n in names
        ]
        lines.append(f"| {row['recipe']} | {row['model']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    console.main(app)
