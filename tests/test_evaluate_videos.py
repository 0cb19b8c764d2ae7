"""The stage `evaluate` on a set of videos, from descriptors made by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spoiled
from PIL import Image
from ruamel.yaml import YAML

from stages import evaluate, prepare
from stages.core import console, store
from stages.datasets import Evaluation
from stages.distill import whitening
from stages.images.sets import EvaluationSet
from stages.tools.check import score

ROOT = Path(__file__).parents[1]
DIM = 12
ROLES = ["query", "database", "database", "query", "database", "distractor", "distractor"]
IDS = ["q0", "p0", "n0", "q1", "p1", "u0", "u1"]
QUERIES = [
    {"image_id": "q0", "positive": ["p0"], "negative": ["n0"]},
    {"image_id": "q1", "positive": ["p1"], "negative": []},
]


class World:
    """Seven videos of 1 to 4 frames, and a student, its start and two teachers."""

    def __init__(self, folder: Path) -> None:
        self.folder, rng = folder, np.random.default_rng(0)
        frames = np.array([3, 2, 1, 4, 1, 2, 3])
        for name, count in zip(IDS, frames.tolist(), strict=True):
            (folder / "frames" / name).mkdir(parents=True)
            for k in range(count):
                Image.new("RGB", (8, 6), (20 * k, 90, 30)).save(
                    folder / f"frames/{name}/{k:04d}.jpg"
                )
        box = np.full((7, 4), np.nan, np.float32)
        found = Evaluation(folder / "frames", IDS, IDS, ROLES, box, "svd", QUERIES, [], frames)
        prepare.write_evaluation(folder / "evaluation", "v", found)
        self.set = EvaluationSet.read(folder / "evaluation/v.h5")
        for model in ("student", "untrained", "a", "b"):
            rows = rng.standard_normal((self.set.count, DIM))
            self.describe(model, rows / np.linalg.norm(rows, axis=1, keepdims=True))
        for name, width in (("a", DIM), ("b", DIM), ("fused", 16)):
            projection = rng.standard_normal((8, width))
            fitted = whitening.Whitening(np.zeros(width), projection, np.ones(8), 1.0)
            whitening.write(folder / f"whitening/{name}.h5", fitted)
        values = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))
        values["teachers"] = {n: {"kind": "any_timm"} for n in ("a", "b")}
        values |= {"ensemble": ["a", "b"], "evaluation": {"v": {"dataset": "svd"}}}
        with (folder / "params.yaml").open("w") as f:
            YAML(typ="safe").dump(values, f)

    def describe(
        self, model: str, rows: np.ndarray, dtype: Any = np.float16, /, **about: Any
    ) -> None:
        assert self.set.start is not None
        arrays = {
            "descriptor": rows.astype(dtype), "image_id": self.set.image_id,
            "path": self.set.path, "start": self.set.start,
        }  # fmt: skip
        store.write(self.file(model), "descriptors", arrays, set=self.set.digest, **about)

    def file(self, model: str) -> Path:
        return self.folder / f"described/{model}/v.h5"

    def rules(self) -> dict[str, dict[str, Any]]:
        """The rules of each score of a run, by model."""
        self.run()
        return json.loads((self.folder / "results/scoring_rules.json").read_text())["v"]

    def run(self) -> dict[str, Any]:
        f = self.folder
        arguments = [f / "evaluation", f / "described", f / "whitening", f / "results"]
        assert (
            console.run(evaluate.app, [*map(str, arguments), "--params", str(f / "params.yaml")])
            == 0
        )
        return json.loads((f / "results/metrics.json").read_text())["v"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_right_videos_first_is_a_hundred(world: World) -> None:
    """Positives share a frame with their query; the labelled of another query do too, and do not
    count as candidates."""
    rows = np.eye(DIM)[np.arange(world.set.count) % DIM] * 0.1
    rows = rows + np.random.default_rng(1).standard_normal(rows.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    start = world.set.start
    assert start is not None
    rows[start[1] : start[2]] = rows[start[0] : start[0] + 2]  # p0 is a part of q0
    rows[start[4]] = rows[start[0] + 1]  # p1, which is q1's, is another part of it
    rows[start[3] : start[4]] = rows[start[4]]  # and so is q1
    world.describe("student", rows)
    found = world.run()
    assert found["student"]["top-inf"]["map"] == found["student"]["top-100"]["map"] == 100
    assert set(found) == {"student", "untrained", "a", "b", "ensemble"}
    assert set(found["a"]) == {"raw", "whitened"}
    assert (world.folder / "results/plots/v/queries.png").is_file()
    lines = (world.folder / "results/queries.csv").read_text().splitlines()
    assert "v,student,top-100,q0,100.0000" in lines and len(lines) == 1 + 7 * 2 * 2


def test_score_agrees(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    found, rules = world.run(), world.rules()
    for model in ("student", "untrained"):
        capsys.readouterr()
        file, truth = str(world.file(model)), str(world.folder / "evaluation/v.json")
        assert console.run(score.app, [file, file, truth, "--json"]) == 0
        scores = json.loads(capsys.readouterr().out)
        assert scores.pop("scoring_rules")["rules"] == rules[model]["rules"] == "svd, chamfer"
        assert scores == found[model]


def test_the_rules_of_a_score_are_of_all_whose_descriptors_make_it(world: World) -> None:
    rows = np.random.default_rng(2).standard_normal((world.set.count, DIM))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for model in ("a", "b"):
        world.describe(model, rows, scales="1")
    fused, old = rows[:, :8], "student/old_model"  # as wide as the ensemble's frame
    fused = fused / np.linalg.norm(fused, axis=1, keepdims=True)
    world.describe("student", fused, scales="1", aligned=True, backward_compatible="x")
    world.describe(old, fused, scales="1")
    before = world.rules()
    made_of_two = ("ensemble", "fused", "asymmetric", "new_on_old")
    same = [before[model] for model in made_of_two]
    assert {r["scales"] for r in same} == {"1"} and {r["dtype"] for r in same} == {"float16"}
    world.describe("b", rows, np.float32, scales="1 0.5")
    world.describe(old, fused, np.float32, scales="1 0.5")
    after = world.rules()
    for model in made_of_two:
        assert after[model]["scales"] == "1 and 1 0.5", model
        assert after[model]["dtype"] == "float16 and float32", model
    assert after["student"] == before["student"]


def test_a_start_that_does_not_fit_is_refused(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = str(world.folder / "evaluation/v.json")
    with np.errstate(all="raise"):
        for start in ([0, 1], [0, 3, 3, 6, 10, 11, 13, 16], [0, 3, 5, 6, 10, 11, 13, 99]):
            stored = store.Stored(world.file("a"), "descriptors")
            arrays = {k: np.array(stored[k]) for k in ("descriptor", "image_id", "path")}
            store.write(world.file("b"), "descriptors", {**arrays, "start": np.array(start)})
            file = str(world.file("b"))
            assert console.run(score.app, [file, file, truth]) == 2
            assert "start" in capsys.readouterr().err


def test_descriptors_and_whitenings_of_another_teacher_are_refused(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(world.folder / n) for n in ("evaluation", "described", "whitening", "results")]
    arguments += ["--params", str(world.folder / "params.yaml")]
    good = np.eye(DIM)[np.arange(world.set.count) % DIM]
    for model, of, code in (("a", "a", 0), ("a", "b", 2), ("student", "b", 2), ("student", "x", 0)):
        world.describe(model, good, model=of)
        capsys.readouterr()
        assert console.run(evaluate.app, arguments) == code, (model, of)
        if code:
            assert f"{model}: described by {of}, not {model}" in capsys.readouterr().err
            world.describe(model, good, model=model)
    file = world.folder / "whitening/a.h5"
    fitted = whitening.read(file)
    for of, code in (("a", 0), ("b", 2)):
        whitening.write(file, fitted, teacher=of)
        assert console.run(evaluate.app, arguments) == code
    assert "a.h5: of teacher b, not a" in capsys.readouterr().err


@pytest.mark.parametrize("value", [np.nan, 0, 2])
def test_described_rows_that_are_no_unit_rows_are_refused(
    world: World, capsys: pytest.CaptureFixture[str], value: float
) -> None:
    arguments = [str(world.folder / n) for n in ("evaluation", "described", "whitening", "results")]
    rows = np.array(store.Stored(world.file("student"), "descriptors")["descriptor"])
    rows[2] *= value
    spoiled.again(world.file("student"), "descriptors", descriptor=rows)
    arguments += ["--params", str(world.folder / "params.yaml")]
    assert console.run(evaluate.app, arguments) == 2
    assert "student/v.h5: descriptor: 1 of" in capsys.readouterr().err
