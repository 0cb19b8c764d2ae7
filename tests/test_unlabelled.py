"""Images without any label, and nothing to score on: the whole pipeline all the same."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import tiny_onnx
from project import ROOT, run, write_params

pytestmark = pytest.mark.long


def test_two_views_of_one_image_are_the_pair(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "stages", tmp_path / "stages")
    names = sorted(
        f.relative_to(tmp_path).as_posix()
        for f in tiny_onnx.images(tmp_path / "my images").rglob("*.png")
    )
    (tmp_path / "mine.csv").write_text(
        "path,group,split\n" + "".join(f"{n},,train\n" for n in names)
    )
    changes = {
        "prepare.dataset": "csv", "datasets.csv": {"file": "mine.csv", "root": None}, "evaluation": {},
        "train.loss": "prototype", "train.head": "ridge",
    }  # fmt: skip
    write_params(tmp_path / "params.yaml", **changes)

    def stage(*arguments: str) -> str:
        return run(
            sys.executable, "-m", f"stages.{arguments[0]}", *arguments[1:], cwd=tmp_path
        ).stderr

    train = "data/prepared/train.h5"
    said = stage("prepare", "data/prepared")
    assert f"{len(names)} images without a group" in said
    for t in ("a", "b"):
        stage("extract", t, train, f"data/features/{t}.h5")
        stage(
            "whiten",
            t,
            train,
            f"data/features/{t}.h5",
            f"models/whitening/{t}.h5",
            f"data/whitened/{t}.h5",
        )
        stage("describe", t, "data/prepared/evaluation", f"data/described/{t}")
    stage("fuse", train, "data/whitened", "data/targets", "models/whitening/fused.h5")
    stage("train", train, "data/targets", "models/student", "models/untrained")
    for model in ("student", "untrained"):
        stage("describe", f"models/{model}", "data/prepared/evaluation", f"data/described/{model}")
    stage(
        "evaluate", "data/prepared/evaluation", "data/described", "models/whitening", "data/results"
    )
    assert json.loads((tmp_path / "data/results/metrics.json").read_text()) == {}
    for out in ("prepared/evaluation", "prepared/validation.h5", "described/student", "described/a",
                "results/plots", "results/queries.csv"):  # fmt: skip
        assert (tmp_path / "data" / out).exists(), out  # what DVC will look for
