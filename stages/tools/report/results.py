"""Print the scores of the latest run, where its plots are, and what to try next.

whiten-mtd results
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from ...core import committed, console, files, params
from ...core.errors import UserError
from ...retrieval import score_table, scoring_rules
from . import latency, runs, table

app = console.app()
NEXT = """Try next (source .venv/bin/activate first):
  dvc repro                                  # nothing to do: every stage is cached
  dvc exp run -S fuse.strategy=mean          # another fusion: runs from fuse on
  dvc exp run -S train.loss=contrastive      # no teacher at all: the baseline
  dvc exp show                               # all experiments side by side
  whiten-mtd verify                          # stored descriptors against the live teachers
  whiten-mtd report report.html              # all of it on one page, with images"""


@app.command()
def main(
    results: Path = typer.Option(Path("data/results"), help="The folder that evaluate wrote."),
    against: Path = typer.Option(None, help="The results folder of another run, to compare with."),
    params_file: Path = params.OPTION,
    rules: bool = typer.Option(False, "--rules", help="Print the scoring rules of every model."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Print the scores of the latest run."""
    for line in notes(results, params_file):
        console.say(line)
    table = scores_of(results)
    if json:
        console.result(files.to_json(table).rstrip())
        return
    order = ("student", "asymmetric", "untrained")
    last = ("ensemble", "fused")
    table = {
        data: {m: scores[m] for m in sorted(scores, key=lambda m: (m not in order, m in last))}
        for data, scores in table.items()
    }
    console.result(score_table.as_text(table))
    scored_by = scoring_rules.read(results)
    for name, of_models in scored_by.items():
        lines = scoring_rules.lines(name, of_models) if rules else [in_short(name, of_models)]
        console.result("\n".join(lines))
    if against is not None:
        compared(table, scored_by, against)
    for line in costs(results, params_file):
        console.result(line)
    file = results / "models.json"
    about = score_table.checked_models(files.read_json(file), table, str(file))
    for name, models in about.items():
        student = models["student"]
        console.result(
            f"\n{name}: student of {student['dim']} dimensions, initial weights {student['init']}; "
            f"plots: {', '.join(str(p) for p in plots(results, name))}"
        )
    console.result(f"\n{NEXT}")


def scores_of(results: Path) -> dict[str, Any]:
    """The scores in a folder that `evaluate` wrote. Raises UserError."""
    file = results / "metrics.json"
    values = files.read_json(file)
    if not isinstance(values, dict) or not all(isinstance(m, dict) for m in values.values()):
        raise UserError(f"{file}: holds no scores; evaluate again")
    return score_table.checked(score_table.renamed(values, f"{results}"), str(file))


def notes(results: Path, params_file: Path) -> Iterator[str]:
    """What to know before the scores: settings that an experiment left, a training of no steps."""
    if line := committed.note(params_file):
        yield f"{line}; `dvc exp run -S` leaves its values in {params_file}"
    config = results.parent.parent / "models/student/config.json"
    known = results.parent.name == "data" and config.is_file()
    if known and (line := runs.no_steps(files.read_json(config))):
        yield line


def in_short(name: str, models: dict[str, scoring_rules.ScoringRules]) -> str:
    """The rules of a set in a line, with the digest of the student's."""
    if (own := models.get("student") or next(iter(models.values()), None)) is None:
        raise UserError(f"{scoring_rules.FILE}: no rules of {name}; evaluate again")
    return f"{name}: {own.rules}, {own.database} images searched [{own.digest}]; --rules says more"


def compared(
    table: dict[str, Any], rules: dict[str, dict[str, scoring_rules.ScoringRules]], against: Path
) -> None:
    """The change of mAP since the run in `against`; a warning where the scoring rules differ."""
    scores_then = scores_of(against)
    rules_then = scoring_rules.read(against)
    for name in table:
        then = score_table.flat(scores_then.get(name, {}))
        for model, scores in score_table.flat(table[name]).items():
            if model not in then:
                continue
            warning = scoring_rules.warning(
                f"{name}, {model}", *(_rules_of(r, name, model) for r in (rules, rules_then))
            )
            if warning:
                console.say(warning)
            changes = [
                (d, s["map"], then[model][d]["map"]) for d, s in scores.items() if d in then[model]
            ]
            cells = ", ".join(f"{d} {new:.1f} ({new - old:+.1f})" for d, new, old in changes)
            console.result(f"{name}, {model}, against {against}: {cells}")


def _rules_of(
    rules: dict[str, dict[str, scoring_rules.ScoringRules]], name: str, model: str
) -> scoring_rules.ScoringRules:
    if (own := rules.get(name, {}).get(model)) is None:
        raise UserError(f"{scoring_rules.FILE}: no rules of {name}, {model}; evaluate again")
    return own


def costs(results: Path, params_file: Path) -> Iterator[str]:
    """A line per set: mAP, megabytes and milliseconds of each model timed on this machine."""
    if results != Path("data/results"):
        return
    try:
        run = runs.workspace(params_file)
        known = table.timed([run], speed=False)
        for data in run.metrics if known else ():
            difficulty = run.main_difficulty(data)
            rows = [r for r in table.table(run, data, known) if r["role"] and r["ms"]]
            cells = (
                f"{r['label'].removesuffix(' whitened')} {r['scores'][difficulty]['map']:.1f} mAP "
                f"{4 * r['parameters']:.1f} MB {r['ms']:.0f} ms"
                for r in rows
            )
            yield f"\n{data} {difficulty}: {'; '.join(cells)}"
        if words := latency.busy(known.values()):
            yield f"milliseconds {words}"
    except UserError:
        return  # the scores of an incomplete run are printed all the same


def plots(results: Path, name: str) -> list[Path]:
    """The plots of one set, and the training curve."""
    files = [results / "plots" / name / f for f in ("queries.png", "map.png", "similarities.png")]
    return [p for p in (*files, Path("models/student/training.png")) if p.is_file()]


if __name__ == "__main__":
    console.main(app)
