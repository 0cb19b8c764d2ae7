"""A frame that is not the first: chosen by validation, followed by describe and evaluate."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tiny_onnx
from project import stage, write_params

from stages.core import files, store
from stages.retrieval.benchmark import Benchmark, Described

TRAIN, SETS = "data/prepared/train.h5", "data/prepared/evaluation"
CHANGES = {"train.loss": "prototype", "train.head": "ridge", "train.epochs": 0}


def unit(x: Any) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def fuse_and_train(world: Path) -> str:
    """What the two stages say."""
    whitening = "models/whitening/fused.h5"
    fused = ("fuse", TRAIN, "data/whitened", "data/targets", whitening)
    said = stage(*fused, "--features", "data/features", cwd=world).stderr
    return (
        said
        + stage(
            "train", TRAIN, "data/targets", "models/student", "models/untrained", cwd=world
        ).stderr
    )


def say_nothing(world: Path, teacher: str) -> None:
    """Whitened descriptors that are all the same: prototypes of them teach nothing."""
    features = store.Stored(world / f"data/features/{teacher}.h5", "features")
    rows = np.zeros((len(features["descriptor"]), 16), np.float16)
    rows[:, 0] = 1
    path = world / f"data/whitened/{teacher}.h5"
    about = {"teacher": teacher, "train": features.text("train"), "features": features.digest}
    store.write(path, "whitened", {"descriptor": rows}, **about)


@pytest.mark.long
def test_another_frame_is_chosen_and_everything_follows_it(world: Path) -> None:
    colours = tiny_onnx.images(world / "colours", groups=16)  # that a random network tells apart
    folder = {"root": str(colours), "seed": 0, "evaluation_share": 0.0, "queries": 1}
    more = {
        "prepare.dataset": "folder", "datasets.folder": folder, "prepare.validation_share": 0.5,
        "fuse.frames": ["whitened", "pca-0.5"],
    }  # fmt: skip
    write_params(world / "params.yaml", **CHANGES, **more)
    stage("prepare", "data/prepared", cwd=world)
    for teacher in ("a", "b"):
        stage("extract", teacher, TRAIN, f"data/features/{teacher}.h5", cwd=world)
        say_nothing(world, teacher)
    assert "frame pca-0.5 is taken" in fuse_and_train(world)
    student = world / "models/student"
    config = json.loads((student / "config.json").read_text())
    assert config["frame"] == "pca-0.5" and config["aligned"]
    assert [row["frame"] for row in config["frames"]] == ["whitened", "pca-0.5"]
    made = {p: files.digest_of_file(p) for p in student.iterdir()}
    stage("describe", "fused", SETS, "data/described/fused", cwd=world)
    stage("describe", "models/student", SETS, "data/described/student", cwd=world)
    stage("evaluate", SETS, "data/described", "models/whitening", "results", cwd=world)

    fused = store.Stored(world / "data/described/fused/demo.h5", "descriptors")
    assert fused.text("frame") == "pca-0.5"
    with h5py.File(world / "models/whitening/frames/fused-pca-0.5.h5") as f:
        side_by_side = []
        for teacher in ("a", "b"):
            with h5py.File(world / f"data/described/{teacher}/demo.h5") as described:
                own = described["descriptor"][:].astype(np.float64)
            own = own - f[f"mean_of_{teacher}"][:]
            side_by_side.append(unit(own @ f[f"projection_of_{teacher}"][:].T) / 2**0.5)
        wanted = unit(np.concatenate(side_by_side, axis=1) @ f["projection"][:].T)
    assert np.abs(fused["descriptor"].astype(np.float64) - wanted).max() < 2e-3

    scores = json.loads((world / "results/metrics.json").read_text())["demo"]
    benchmark = Benchmark.read(world / SETS, "demo")
    dim = wanted.shape[1]
    rows = wanted.astype(np.float32)
    teachers = Described(rows[benchmark.query], rows[benchmark.own], dim, np.float32, {})
    ours = store.Stored(world / "data/described/student/demo.h5", "descriptors")
    query = np.asarray(ours["descriptor"], np.float32)[benchmark.query]
    protocol = benchmark.truth.protocol
    for name, asking in (("fused", teachers.query), ("asymmetric", unit(query))):
        found = protocol.all_scores(benchmark.ranks(asking, teachers.database))
        for difficulty, one in found.items():
            assert abs(one["map"] - scores[name][difficulty]["map"]) < 0.5, (name, difficulty)

    fuse_and_train(world)  # the same bytes again
    assert {p: files.digest_of_file(p) for p in student.iterdir()} == made


def test_a_frame_alone_needs_no_validation(world: Path) -> None:
    write_params(
        world / "params.yaml", **CHANGES, **{"fuse.frames": ["raw"], "train.validate_every": 0}
    )
    fuse_and_train(world)
    assert json.loads((world / "models/student/config.json").read_text())["frame"] == "raw"
