"""A training that diverges: seen at once, the best sound weights kept, by hand on a tiny loop."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.core import files
from stages.core.errors import UserError
from stages.core.runtime import Parts
from stages.distill import history, schedule, soundness
from stages.distill.record import Record
from stages.distill.training import Loop, Plan, snapshot
from stages.retrieval.validation import Score


class Net(torch.nn.Module):
    """One weight, and what a student has beside."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = torch.nn.Linear(1, 1), None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.backbone(x)


class Tiny(Loop):
    """The loop itself; only the loss is given, one value a step."""

    def __init__(self, losses: list[float], probe: Any, every: int) -> None:
        self.student = Net()
        self.plan = Plan(
            epochs=1, view_px=16, lr=0.5, final_lr=0.1, backbone_lr_scale=1, weight_decay=0,
            amp=False, validate_every=every, patience=0, seed=0,
        )  # fmt: skip
        self.losses, self.steps, self.step = losses, len(losses), 0
        self.probe, self.record = probe, Record()
        self.targets = Held()  # type: ignore[assignment]
        self.diverged, self.moving = None, None
        self.start = snapshot(self.student)  # type: ignore[arg-type]
        self._optimizer = schedule.adam(self.student, 0.5, 1, 0)  # type: ignore[arg-type]

    def _batches(self) -> Any:
        return iter([torch.ones(1, 1)] * (self.steps - self.step))

    def loss(self, pixels: torch.Tensor, targets: Any, step: int) -> torch.Tensor:
        return self.student(pixels).sum() * 0.1 + self.losses[step]


class Held:
    held_out = None
    steps = 100


class Given:
    """A probe that gives these values in turn; an error is raised."""

    def __init__(self, *values: Any) -> None:
        self.left = list(values)

    def __call__(self, net: Any) -> Score:
        value = self.left.pop(0)
        if isinstance(value, Exception):
            raise value
        return self.score(np.full(2, float(value)))

    def score(self, ap: np.ndarray) -> Score:
        return Score(ap, np.arange(len(ap)))


def run(tmp_path: Path, losses: list[float], probe: Any = None, every: int = 0) -> Tiny:
    loop = Tiny(losses, probe, every)
    loop.run(Parts(tmp_path))
    assert soundness.finite(loop.student.state_dict())
    history.write(tmp_path / "h.csv", loop.history)
    history.draw(tmp_path / "h.png", loop.history, loop.step)
    assert "nan" not in (tmp_path / "h.csv").read_text()
    return loop


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 3, 7])
def test_a_loss_that_is_no_number_stops_and_ships_the_best(
    tmp_path: Path, value: float, at: int
) -> None:
    losses = [1.0] * 10
    losses[at] = value
    loop = run(tmp_path, losses, Given(10, 30, 20, 25, 99, 99), every=2)
    assert loop.diverged is not None and loop.diverged.step == at + 1
    assert f"the loss is {value} at step {at + 1} (learning rate 0." in str(loop.diverged)
    assert loop.record.best is not None and loop.step == loop.record.best.step == (
        2 if at > 1 else 0
    )
    assert loop.record.best.score == (30 if at > 1 else 10)


def test_without_a_measure_the_start_is_shipped(tmp_path: Path) -> None:
    torch.manual_seed(3)
    start = snapshot(Tiny([], None, 0).student)  # type: ignore[arg-type]
    torch.manual_seed(3)
    loop = run(tmp_path, [1.0] * 60 + [math.nan] * 5)
    assert loop.diverged is not None and loop.diverged.step == 61 and loop.step == 0
    assert all(torch.equal(v, start[k]) for k, v in loop.student.state_dict().items())


@pytest.mark.parametrize(
    ("third", "told"),
    [
        (math.nan, "the validation is nan at step 4"),
        (UserError("NaN or infinity in the descriptors of 3 images"), "NaN or infinity in the des"),
    ],
)
def test_a_validation_that_is_no_number(tmp_path: Path, third: Any, told: str) -> None:
    loop = run(tmp_path, [1.0] * 8, Given(10, 5, third, 175), every=2)
    assert (
        told in str(loop.diverged)
        and loop.step == 0
        and loop.record.best is not None
        and loop.record.best.score == 10
    )
    with pytest.raises(UserError):  # before any step it is no divergence
        run(tmp_path, [1.0], Given(UserError("x")))


def test_weights_that_are_no_numbers_are_never_the_best(tmp_path: Path) -> None:
    loop = Tiny([1.0] * 8, Given(10, 50, 175), 2)
    step = loop._optimizer.step

    def diverging(*_: Any) -> None:
        step()
        if loop.step >= 2:
            with torch.no_grad():
                loop.student.backbone.weight.fill_(math.nan)

    loop._optimizer.step = diverging  # type: ignore[method-assign]
    loop.run(Parts(tmp_path))
    assert (
        loop.diverged is not None
        and loop.record.best is not None
        and loop.record.best.score == 50
        and loop.step == 2
    )
    assert soundness.finite(loop.student.state_dict())


def test_a_sound_training_is_left_alone(tmp_path: Path) -> None:
    loop = run(tmp_path, [1.0] * 8, Given(10, 20, 30, 25, 26), every=2)
    assert (
        loop.diverged is None
        and loop.step == 8
        and loop.record.best is not None
        and loop.record.best.score == 30
    )


def test_finite_looks_at_every_weight_and_counter() -> None:
    state = {"a": torch.ones(3), "n": torch.tensor(5), "h": torch.ones(2, dtype=torch.float16)}
    assert soundness.finite(state)
    for key in ("a", "h"):
        assert not soundness.finite({**state, key: state[key] * np.inf})
    assert files.digest_of("x")
