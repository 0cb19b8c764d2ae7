"""Print the scores of the latest run, where its pictures are, and what to try next.

whiten-mtd results
"""

from pathlib import Path

import typer

from ..core import console, store
from ..retrieval import metrics

app = console.app()
NEXT = """Try next (source .venv/bin/activate first):
  dvc repro                                  # nothing to do: every stage is cached
  dvc exp run -S fuse.strategy=mean          # another fusion: starts at fuse
  dvc exp run -S train.loss=contrastive      # no teacher at all: the honest baseline
  dvc exp show                               # all experiments side by side
  whiten-mtd verify                          # stored descriptors against the live teachers"""


@app.command()
def main(
    results: Path = typer.Option(Path("data/results"), help="What evaluate wrote."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Print the scores of the latest run."""
    table = store.read_json(results / "metrics.json")
    if json:
        console.result(store.to_json(table).rstrip())
        return
    console.result(metrics.as_text(table))
    about = store.read_json(results / "models.json")
    for name, models in about.items():
        student = models["student"]
        console.result(
            f"\n{name}: student of {student['dim']} dimensions, first weights {student['init']}; "
            f"pictures: {', '.join(str(p) for p in pictures(results, name))}"
        )
    console.result(f"\n{NEXT}")


def pictures(results: Path, name: str) -> list[Path]:
    """What there is to look at of one set, and the training curve."""
    drawn = [results / "plots" / name / f for f in ("queries.png", "map.png", "similarities.png")]
    return [p for p in (*drawn, Path("models/student/training.png")) if p.is_file()]


if __name__ == "__main__":
    console.main(app)
