"""What is shipped, on scores whose right answer is plain."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from stages.core.errors import UserError
from stages.distill.shipping import (
    AVERAGED,
    START,
    TRAINED,
    UNTRAINED,
    Candidate,
    Made,
    choose,
    first_that_stands,
)
from stages.distill.student import Student
from stages.retrieval.validation import Score

GROUP = np.repeat(np.arange(8), 4)
NOISE = np.random.default_rng(0).normal(size=32)


def score(level: float, spread: float = 0.0) -> Score:
    """`level` percent; `spread`: how much single queries differ from it, the same for no other."""
    return Score(level + spread * NOISE * np.where(GROUP % 2, 1, -1), GROUP)


def candidate(kind: str, found: Score, step: int = 0) -> Candidate:
    return Candidate(kind, {}, found, step)


def test_a_gain_counts_where_it_exceeds_its_error() -> None:
    start, clear = candidate(START, score(60)), candidate(TRAINED, score(61), 5)
    assert first_that_stands([start, clear]) is clear
    doubtful = candidate(TRAINED, score(61, spread=20), 5)
    gain, error = doubtful.score.gain_over(start.score)  # type: ignore[union-attr]
    assert 0 < gain < error
    assert first_that_stands([start, doubtful]) is start
    assert first_that_stands([clear, start]) is clear


def test_one_group_can_tell_nothing() -> None:
    low, high = Score(np.array([1.0, 2.0]), np.zeros(2)), Score(np.array([91.0, 92.0]), np.zeros(2))
    start = candidate(START, low)
    assert first_that_stands([start, candidate(TRAINED, high, 3)]) is start


@dataclass
class ByBias:
    """A probe that reads the score off the head's first bias."""

    refuse: float = np.nan

    def __call__(self, net: Student) -> Score:
        assert net.head is not None
        value = net.head.bias[0].item()
        if value == self.refuse:
            raise UserError("NaN")
        return score(value)

    def score(self, ap: np.ndarray) -> Score:
        return Score(ap, GROUP)


@pytest.fixture(scope="module")
def student() -> Student:
    return Student("test_efficientnet", dim=4, image_px=32)


def state(student: Student, bias: float) -> dict[str, torch.Tensor]:
    out = {k: v.clone() for k, v in student.state_dict().items()}
    out["head.bias"][0] = bias
    return out


def made(student: Student, start: float, last: float) -> Made:
    first = Candidate(START, state(student, start), score(start), 0, 0.0)
    final = Candidate(TRAINED, state(student, last), score(last), 7, 1.0)
    return Made(first, final, final, None)


def test_the_path_is_measured_and_the_best_of_it_shipped(student: Student) -> None:
    bare = state(student, 5)
    choice = choose(student, ByBias(refuse=27.0), made(student, 20, 30), "path", bare, ridge=True)
    assert choice.shipped.kind == TRAINED and choice.shipped.step == 7
    # 0.7 of the way (27.0) gave no numbers and is left out
    assert [c["share"] for c in choice.curve()] == [0.0, 0.3, 0.5, 0.85, 1.0]
    assert [round(c["map"], 3) for c in choice.curve()] == [20, 23, 25, 28.5, 30]
    worse = choose(student, ByBias(), made(student, 30, 20), "path", bare, ridge=True)
    assert worse.shipped.kind == START
    assert worse.trained.kind == AVERAGED and worse.trained.share == 0.3


@pytest.mark.parametrize("average", ["path", "none"])
def test_below_the_untrained_network_nothing_else_is_shipped(
    student: Student, average: str
) -> None:
    bare = state(student, 40)
    choice = choose(student, ByBias(), made(student, 20, 30), average, bare, ridge=True)
    assert choice.shipped.kind == UNTRAINED
    assert choice.trained.kind == TRAINED  # what compare reports beside it
    assert torch.equal(choice.shipped.state["head.bias"], bare["head.bias"])


def test_a_random_start_is_not_what_is_simple(student: Student) -> None:
    bare = state(student, 19)
    choice = choose(student, ByBias(), made(student, 20, 18), "none", bare, ridge=False)
    assert choice.shipped.kind == UNTRAINED


def test_a_student_for_an_old_index_is_compared_with_its_ridge_start_alone(
    student: Student,
) -> None:
    both = made(student, 20, 18)
    assert choose(student, ByBias(), both, "none", None, ridge=True).shipped.kind == START
    # A random head knows nothing of the old model: there is nothing to fall back to.
    assert choose(student, ByBias(), both, "none", None, ridge=False).shipped.kind == TRAINED


@pytest.mark.parametrize(
    ("average", "ridge", "bias"), [("path", True, 25.0), ("path", False, 30.0), ("none", True, 30)]
)
def test_without_validation_half_the_way(
    student: Student, average: str, ridge: bool, bias: float
) -> None:
    choice = choose(student, None, made(student, 20, 30), average, None, ridge=ridge)
    assert float(choice.shipped.state["head.bias"][0]) == pytest.approx(bias)
    assert choice.trained is choice.shipped


def test_no_step_was_done(student: Student) -> None:
    first = Candidate(START, state(student, 20), score(20), 0, 0.0)
    choice = choose(student, ByBias(), Made(first, first, first, None), "path", None, ridge=True)
    assert choice.shipped.kind == START and choice.trained is choice.shipped
