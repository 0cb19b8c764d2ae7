"""What `plan` says against what a run made, before and after `prepare`."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from project import write_params

from stages.core import console
from stages.tools.cost import plan


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert console.run(plan.app, ["--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def weight(folder: Path, pattern: str) -> int:
    return sum(f.stat().st_size for f in folder.glob(pattern))


def test_disk_is_what_the_run_took(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    found = planned(capsys, "--no-time")
    disk, header = found["disk"], 8192  # HDF5's own bytes, a file
    for what, pattern, files in (
        ("features", "data/features/*.h5", 2),
        ("whitened features", "data/whitened/*.h5", 2),
        ("whitening", "models/whitening/*.h5", 3),
        ("evaluation descriptors", "data/described/*/*.h5", 4),
        ("fused targets, prototypes", "data/targets/*.h5", 3),
    ):
        assert disk[what] <= weight(project, pattern) * 1.1
        assert disk[what] >= 0.9 * weight(project, pattern) - files * header
    # The student, untrained and perhaps what training made: `models/student/trained`.
    apart = Path("models/student/trained").exists()
    models = weight(project, "models/**/*.safetensors")
    assert disk["student, untrained"] == pytest.approx(models * (1 if apart else 1.5), rel=0.1)
    assert found["seconds"] == {}


def test_passes_are_those_of_the_plan_of_batches(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stages.distill.targets import Targets
    from stages.images.sets import TrainSet

    monkeypatch.chdir(project)
    found = planned(capsys, "--no-time")
    views = TrainSet.read(Path("data/prepared/train.h5"))
    targets = Targets.read(Path("data/targets"), views)
    assert found["counts"]["steps"] == targets.steps
    assert found["passes"]["offline"] == 2 * len(views.view_image)
    assert found["passes"]["online"] == 2 * 2 * targets.batch * targets.steps * 3  # epochs
    assert found["break_even"] == 2 * (16 + 16) / 4


def test_before_anything_ran_it_knows_about_as_much(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(project)
    after = planned(capsys, "--no-time")["counts"]
    empty = tmp_path / "empty"
    empty.mkdir()
    shutil.copy("params.yaml", empty)
    monkeypatch.chdir(empty)
    before = planned(capsys, "--no-time")["counts"]
    assert before["evaluation"] == after["evaluation"] and before["batch"] == after["batch"]
    for what in ("images", "views", "groups"):
        assert before[what] == pytest.approx(after[what], rel=0.25), what
    assert [p.name for p in empty.iterdir()] == ["params.yaml"]  # nothing is drawn or left


def test_hours_come_from_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    few = planned(capsys, "--seconds", "1", "--images", "300")["seconds"]
    many = planned(capsys, "--seconds", "1", "--images", "300000")["seconds"]
    assert set(few) == {"prepare", "extract", "whiten", "fuse", "train", "describe", "evaluate"}
    assert all(v >= 0 for v in few.values())
    assert many["extract"] > 20 * few["extract"] and many["train"] > 20 * few["train"]


def test_text_says_what_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params(tmp_path / "params.yaml", **{"train.epochs": 50, "prepare.epochs": 50})
    monkeypatch.chdir(tmp_path)
    assert console.run(plan.app, ["--no-time", "--images", "1000"]) == 0
    said = capsys.readouterr().out
    assert "saved by the first training" in said and "2TD/B = 16.0" in said
    assert "time: not measured" in said and "total" in said


def test_a_teacher_without_weights_has_a_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    teachers = {"g": {"kind": "gem", "weights": "nowhere.pth", "image_px": 64}}
    write_params(tmp_path / "params.yaml", teachers=teachers, ensemble=["g"])
    monkeypatch.chdir(tmp_path)
    found = planned(capsys, "--no-time")
    assert found["stand_ins"] == ["g"]
    assert found["disk"]["features"] == 2 * 2048 * found["counts"]["views"]


@pytest.mark.parametrize(
    ("changes", "arguments", "words"),
    [
        ({"fuse.batch": 999}, [], "fuse.batch is 999 but there are about"),
        ({"fuse.batch": "four"}, [], "fuse.batch"),
        ({"prepare.dataset": "nowhere"}, [], "nowhere"),
        ({"student": "resnet_no"}, ["--no-time"], "resnet_no"),
        ({}, ["--groups", "3"], "--groups goes with --images"),
        ({}, ["--images", "3", "--groups", "9"], "at most as many"),
    ],
)
def test_bad_input_is_one_line(
    changes: dict[str, Any], arguments: list[str], words: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_params(tmp_path / "params.yaml", **changes)
    monkeypatch.chdir(tmp_path)
    assert console.run(plan.app, arguments) == 2
    captured = capsys.readouterr()
    lines = [x for x in captured.err.splitlines() if x.startswith("error: ")]
    assert len(lines) == 1 and words in lines[0] and captured.out == ""


@pytest.mark.parametrize("load", [0.0, 1e4])
def test_hours_of_a_busy_machine_say_so(
    load: float, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    assert console.run(plan.app, ["--seconds", "1"]) == 0
    assert ("times measured on a busy machine" in capsys.readouterr().out) == bool(load)
    assert planned(capsys, "--no-time")["busy"] == ""  # nothing was measured
