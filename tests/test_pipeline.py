"""DVC as people use it, for real, in one temporary checkout on the tiny world."""

import csv
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import run

from stages.core import params


def executed(output: str) -> list[str]:
    """Names of the stages that DVC ran, but for `look`, which always runs."""
    return [name for name in re.findall(r"Running stage '([^']+)'", output) if name != "look"]


@pytest.fixture
def clean(project: Path) -> Iterator[Path]:
    """The shared checkout as it was after its first run, before and after each test."""

    def reset() -> None:
        run("git", "checkout", "-q", "--", ".", cwd=project)
        run("dvc", "checkout", "-q", "--force", cwd=project)

    reset()
    yield project
    reset()


def repro(project: Path, *arguments: str) -> list[str]:
    return executed(run("dvc", "repro", *arguments, cwd=project).stdout)


def experiment(project: Path, *arguments: str) -> list[str]:
    return executed(run("dvc", "exp", "run", *arguments, cwd=project).stdout)


def metrics(project: Path) -> dict:  # type: ignore[type-arg]
    return json.loads((project / "data/results/metrics.json").read_text())["demo"]


def test_first_run_ran_everything_and_left_git_clean(project: Path) -> None:
    log = (project.parent / "repro.log").read_text()
    assert len(executed(log)) == 12
    assert "validation groups (" in log
    status = run("git", "status", "--porcelain", "--ignored=no", cwd=project).stdout
    assert status == ""


def test_second_repro_runs_nothing(clean: Path) -> None:
    assert repro(clean) == []


def test_another_student_trains_and_scores_only(clean: Path) -> None:
    ran = experiment(clean, "-S", "student=test_resnet")
    assert ran == [
        "train", "describe_student@student", "describe_student@untrained", "evaluate",
    ]  # fmt: skip
    shown = json.loads(run("dvc", "exp", "show", "--json", cwd=clean).stdout)
    assert "!" not in json.dumps(shown)
    assert repro(clean, "--dry") == []


def test_going_back_costs_nothing(clean: Path) -> None:
    before = (clean / "models/student/model.safetensors").read_bytes()
    experiment(clean, "-S", "evaluate.sheet_results=2")
    run("git", "checkout", "-q", "--", ".", cwd=clean)
    assert repro(clean) == []
    assert (clean / "models/student/model.safetensors").read_bytes() == before


def test_strategy_starts_at_fuse(clean: Path) -> None:
    ran = experiment(clean, "-S", "fuse.strategy=mean")
    assert ran[0] == "fuse" and ran[1] == "train"
    assert not [s for s in ran if s.startswith(("extract", "whiten", "describe@"))]


@pytest.mark.long
def test_a_new_teacher_is_the_only_one_extracted(clean: Path) -> None:
    new = "+teachers.c={kind: any_timm, model: test_resnet, image_px: 48, weights: random}"
    ran = experiment(clean, "-S", new)
    assert [s for s in ran if s.startswith(("extract", "whiten", "describe@"))] == [
        "extract@c", "whiten@c", "describe@c",
    ]  # fmt: skip
    assert "train" not in ran  # not in the ensemble: the targets stay as they are
    assert set(metrics(clean)) - {"trained"} == {"student", "untrained", "a", "b", "c", "ensemble"}


@pytest.mark.long
def test_a_removed_teacher_leaves_no_trace(clean: Path) -> None:
    ran = experiment(clean, "-S", "ensemble=[a]", "-S", "~teachers.b")
    assert "fuse" in ran and not [s for s in ran if s.startswith("extract")]
    # A stale data/whitened/b.h5 may stay in the folder; nothing may read it.
    assert set(metrics(clean)) - {"trained"} == {"student", "untrained", "a", "ensemble"}
    alone = metrics(clean)["a"]["whitened"]
    assert metrics(clean)["ensemble"] == alone  # one teacher fused is that teacher


def test_code_of_training_does_not_extract_again(clean: Path) -> None:
    loss = clean / "stages/distill/losses/relation.py"
    loss.write_text(loss.read_text() + "\n# a comment\n")
    ran = repro(clean, "--dry")
    assert ran and ran[0] == "train"


def test_failed_stage_leaves_no_data_for_git(clean: Path) -> None:
    done = run("dvc", "exp", "run", "-S", "fuse.batch=999", cwd=clean, check=False)
    assert done.returncode != 0
    assert "fuse.batch is 999" in done.stdout + done.stderr
    status = run("git", "status", "--porcelain", cwd=clean).stdout
    assert {line[3:] for line in status.splitlines()} <= {"params.yaml", "dvc.lock"}


@pytest.mark.long
def test_same_seed_same_bytes(clean: Path, tmp_path: Path) -> None:
    lock = (clean / "dvc.lock").read_text()
    run("dvc", "repro", "--force", "--no-run-cache", cwd=clean)
    assert (clean / "dvc.lock").read_text() == lock


@pytest.mark.long
def test_a_copy_runs_beside_the_workspace(clean: Path) -> None:
    before = (clean / "params.yaml").read_bytes()
    run("dvc", "exp", "run", "--temp", "-n", "aside", "-S", "fuse.strategy=mean", cwd=clean)
    assert (clean / "params.yaml").read_bytes() == before
    assert repro(clean) == []
    assert scored(clean)["aside"] > 0


@pytest.mark.long
def test_a_queue_sweeps(clean: Path) -> None:
    sweep = ("-n", "sweep", "-S", "train.temperature=0.07,0.09")
    run("dvc", "exp", "run", "--queue", *sweep, cwd=clean)
    run("dvc", "queue", "start", cwd=clean)
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        listed = run("dvc", "queue", "status", cwd=clean).stdout
        if not re.search("Queued|Running", listed):
            break
        time.sleep(3)
    run("dvc", "queue", "stop", cwd=clean)
    assert listed.count("Success") == 2, listed
    assert {"sweep-1", "sweep-2"} <= set(scored(clean))
    assert repro(clean) == []
    run("dvc", "exp", "apply", "sweep-2", cwd=clean)  # its parameters, results and models, here
    values = params.parse((clean / "params.yaml").read_bytes(), "params.yaml")
    assert values["train"]["temperature"] == 0.09 and repro(clean) == []
    run("dvc", "exp", "branch", "sweep-1", "winner", cwd=clean)
    assert "winner" in run("git", "branch", cwd=clean).stdout


def scored(project: Path) -> dict[str, float]:
    """The student's mAP of every experiment that `dvc exp show` has, by name."""
    shown = run("dvc", "exp", "show", "--csv", "--no-pager", cwd=project).stdout
    rows = list(csv.DictReader(shown.splitlines()))
    column = next(c for c in rows[0] if c.endswith("demo.student.medium.map"))
    return {r["Experiment"]: float(r[column]) for r in rows if r["Experiment"]}


def test_clone_with_cache_runs_nothing(clean: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy of it"
    run("git", "clone", "-q", str(clean), str(copy), cwd=tmp_path)
    shutil.copytree(clean / ".dvc/cache", copy / ".dvc/cache")
    run("dvc", "checkout", cwd=copy)
    assert repro(copy) == []
