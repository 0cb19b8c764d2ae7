"""Recipes compared for real, by DVC experiments on the tiny world."""

import csv
import sys
from pathlib import Path

import pytest
from project import ROOT, run, write_params

from stages.core.errors import UserError
from stages.tools.report import compare

SECTION = {
    "seeds": [0, 1],
    "models": ["student", "asymmetric"],
    "recipes": {
        "labels": {"set": ["train.loss=contrastive"], "tune": ["train.temperature=0.1,0.2"]},
        "start": {
            "set": ["train.loss=prototype", "train.head=ridge", "train.epochs=0"],
            "tune": [],
        },
    },
}


@pytest.mark.long
def test_every_recipe_is_tuned_and_run_with_every_seed(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    run("git", "clone", "-q", str(project), str(copy), cwd=tmp_path)
    run("cp", "-r", str(project / ".dvc/cache"), str(copy / ".dvc/cache"), cwd=tmp_path)
    run("dvc", "checkout", cwd=copy)
    write_params(copy / "params.yaml", compare=SECTION)
    run("git", "commit", "-qam", "what to compare", cwd=copy)
    said = run(sys.executable, "-m", "stages", "compare", cwd=copy)
    rows = list(csv.DictReader((copy / "comparison/comparison.csv").read_text().splitlines()))
    assert [(r["recipe"], r["model"]) for r in rows] == [
        ("labels", "student"), ("start", "student"), ("start", "asymmetric"),
    ]  # fmt: skip
    assert all(r["runs"] == "2" for r in rows)
    # Labels alone were tuned, on validation groups, and the choice is in the table.
    assert said.stderr.count("train.temperature=0.1: ") == 1
    assert "train.temperature=0." in rows[0]["setting"]
    # Without a step of training no seed can matter but the ridge's sample, which is the whole.
    assert float(rows[1]["medium_low"]) <= float(rows[1]["medium"]) <= float(rows[1]["medium_high"])
    assert "| labels | student |" in said.stdout
    assert (copy / "params.yaml").read_text() == run(
        "git", "show", "HEAD:params.yaml", cwd=copy
    ).stdout


@pytest.mark.parametrize("recipe", ["pprototype"])
def test_an_unknown_recipe_lists_the_choices(recipe: str, tmp_path: Path) -> None:
    done = run(sys.executable, "-m", "stages", "compare", "--recipe", recipe, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert "choose from ridge start alone" in done.stderr


def test_knobs_are_tuned_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four runs instead of a product of four: the second knob is tried at the first one's best."""
    tried: list[tuple[str, ...]] = []

    def experiment(overrides: tuple[str, ...], name: str, target: str | None = None) -> str:
        tried.append(overrides)
        return str(len(tried) - 1)

    def artefact(label: str, path: str) -> str:
        values = dict(o.split("=") for o in tried[int(label)])
        return f'{{"trained_validation_map": {10 * float(values["t"]) + float(values["lr"])}}}'

    monkeypatch.setattr(compare, "experiment", experiment)
    monkeypatch.setattr(compare, "artefact", artefact)
    recipe = compare.Recipe(set=["lr=1", "loss=x"], tune=["t=1,3", "lr=1,2"])
    assert compare.tuned("r", recipe, 0) == ("loss=x", "t=3", "lr=2")
    assert [t[:-2] for t in tried] == [
        ("lr=1", "loss=x", "t=1"), ("lr=1", "loss=x", "t=3"),
        ("loss=x", "t=3", "lr=1"), ("loss=x", "t=3", "lr=2"),
    ]  # fmt: skip


def test_a_knob_without_values_is_told() -> None:
    with pytest.raises(UserError, match="knob=value"):
        compare.parsed("train.lr")
