"""Which recipe makes the best student here: recipes x seeds on the same images, fairly.

    whiten-mtd compare

Every recipe of `compare.recipes` is first tuned, on one seed and a knob at a time, by retrieval on
the groups that `prepare` set aside; then its best setting runs with every seed of `compare.seeds`.
All runs are DVC experiments in a temporary copy: same steps, same student forwards, and nothing is
computed twice.
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
    if odd := [n for n in recipe if n not in p.recipes]:
        raise UserError(f"no recipe {odd[0]!r}: choose from {', '.join(p.recipes)}")
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
    """The recipe's overrides, with the best value of each knob of `tune` by held-out retrieval.

    One knob after the other, the later ones as `set` or params.yaml have them meanwhile.
    """
    chosen = tuple(recipe.set)
    for knob, values in (parsed(t) for t in recipe.tune):
        scores = []
        for value in values:
            overrides = replaced(chosen, knob, value)
            label = experiment((*overrides, *seeded(seed)), name, target="train")
            config = json.loads(artefact(label, "models/student/config.json"))
            if config["validation_map"] is None:
                raise UserError(
                    "compare tunes on validation groups: set prepare.validation_share above 0"
                )
            scores.append(float(config["validation_map"]))
            console.say(f"{name}: {knob}={value}: {scores[-1]:.2f}")
        best = int(np.argmax(scores))
        if best in (0, len(values) - 1) and len(values) > 1:
            console.say(f"{name}: {knob}={values[best]} is at the end of what was tried")
        chosen = replaced(chosen, knob, values[best])
    return chosen


def parsed(tune: str) -> tuple[str, list[str]]:
    """The knob and its values of `knob=value,value`."""
    knob, equals, values = tune.partition("=")
    if not equals:
        raise UserError(f"compare.recipes: tune: {tune!r} is not knob=value,value")
    return knob, values.split(",")


def replaced(overrides: tuple[str, ...], knob: str, value: str) -> tuple[str, ...]:
    """`overrides` with `knob` set to `value`, in its place or at the end."""
    kept = tuple(o for o in overrides if o.partition("=")[0] != knob)
    return (*kept, f"{knob}={value}")


def seeded(seed: int) -> tuple[str, ...]:
    """Overrides of one seed: another plan of batches, another head."""
    return (f"fuse.seed={seed}", f"train.seed={seed}")


def mixed(runs: dict[str, list[Run]], models: list[str]) -> Iterator[str]:
    """A warning for every set and model whose scores were made under different protocols."""
    everyone = [(name, r) for name, of_recipe in runs.items() for r in of_recipe]
    for data in everyone[0][1].rules:
        for model in models:
            found = [
                (n, r.rules[data][model]) for n, r in everyone if model in r.rules.get(data, {})
            ]
            for name, rules in found[1:]:
                first, theirs = found[0]
                if told := scoring_rules.warning(
                    f"{data}, {model}, {first} and {name}", theirs, rules
                ):
                    yield told
                    break


def experiment(overrides: tuple[str, ...], name: str, target: str | None = None) -> str:
    """`dvc exp run` in a temporary copy of the project; returns the experiment's name.

    One that is there already is taken as it is, so that a comparison goes on where it was.
    """
    slug = "".join(c if c.isalnum() else "-" for c in name)
    label = f"compare-{slug}-{files.digest_of([overrides, target])[:8]}"
    if label in dvc("exp", "list", "--name-only").split():
        return label
    changes = [word for override in overrides for word in ("--set-param", override)]
    dvc("exp", "run", "--temp", "--name", label, *changes, *([target] if target else []))
    return label


def dvc(*command: str) -> str:
    """What a command of DVC prints. Raises UserError with its last lines where it fails."""
    done = subprocess.run([sys.executable, "-m", "dvc", *command], capture_output=True, text=True)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise UserError(f"dvc {' '.join(command)} failed:\n{tail}")
    return done.stdout


def artefact(experiment: str, path: str) -> str:
    """A file of an experiment."""
    from dvc.api import read

    return str(read(path, rev=experiment))


def table_rows(
    name: str, setting: tuple[str, ...], runs: list[Run], models: list[str]
) -> Iterator[dict[str, Any]]:
    """One row for each of `models` that the runs have, in every set."""
    for data in runs[0].metrics:
        for model in models:
            if model not in runs[0].metrics[data]:
                continue
            row: dict[str, Any] = {
                "set": data, "recipe": name, "model": model, "runs": len(runs),
                "setting": " ".join(setting),
            }  # fmt: skip
            scored = runs[0].metrics[data][model]
            for difficulty in protocols.in_order(scored):
                maps = np.array([r.metrics[data][model][difficulty]["map"] for r in runs])
                aps = np.array(
                    [list(r.queries[data, model, difficulty].values()) for r in runs]
                ).mean(0)
                low, high = metrics.bootstrap(aps)
                row[difficulty] = round(float(maps.mean()), 2)
                row[f"{difficulty}_spread"] = (
                    round(float(maps.std(ddof=1)), 2) if len(maps) > 1 else 0.0
                )
                row[f"{difficulty}_low"], row[f"{difficulty}_high"] = round(low, 2), round(high, 2)
            yield row


def write(out: Path, rows: list[dict[str, Any]]) -> None:
    """comparison.csv and comparison.md, whole after every recipe."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(k for r in rows for k in r)), restval="")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(out / "comparison.csv", buffer.getvalue())
    files.write_text(out / "comparison.md", markdown(rows) + "\n")


def markdown(rows: list[dict[str, Any]]) -> str:
    """mean ± spread over seeds, [95 % interval over queries] of each difficulty."""
    names = [k for k in rows[0] if f"{k}_spread" in rows[0]]
    lines = [
        "| recipe | scored | " + " | ".join(f"mAP {n}" for n in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for row in rows:
        cells = [
            f"{row[n]:.1f} ± {row[n + '_spread']:.1f} "
            f"[{row[n + '_low']:.1f}, {row[n + '_high']:.1f}]"
            for n in names
        ]
        lines.append(f"| {row['recipe']} | {row['model']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    console.main(app)
