"""Which student is shipped: what training made, its start, or the untrained network.

What is simpler is kept unless the validation groups show a gain larger than its own standard error:
the ridge start first, then the untrained backbone with a head by PCA, then what training made.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from ..core import console
from ..core.errors import UserError
from .averaging import SHARES, UNMEASURED, Moving, State, between
from .student import Student

START, UNTRAINED, TRAINED, AVERAGED = "start", "untrained head", "trained", "averaged"


class Score(Protocol):
    """How well a student retrieves: average precisions (q,), their mean and its error, percent."""

    @property
    def ap(self) -> np.ndarray: ...

    @property
    def map(self) -> float: ...

    @property
    def error(self) -> float: ...

    def gain_over(self, other: Any, /) -> tuple[float, float]: ...


def rounded(error: float) -> float | None:
    """A standard error as config.json has it; None where one group cannot tell it."""
    return round(error, 4) if np.isfinite(error) else None


class Probe(Protocol):
    """What measures a student on the validation groups."""

    def __call__(self, net: Student, /) -> Score: ...

    def score(self, ap: np.ndarray, /) -> Score: ...


@dataclass(frozen=True)
class Candidate:
    """Weights that may be shipped; `share` of the way from the start to those after `step`."""

    kind: str
    state: State
    score: Score | None
    step: int = 0
    share: float | None = None

    def described(self) -> str:
        """A few words for people."""
        if self.kind == AVERAGED and self.share is not None:
            return f"averaged weights, {self.share:g} of the way from the start to the last"
        of_step = f"the weights after step {self.step}"
        return {START: "the start", TRAINED: of_step, AVERAGED: "the moving average"}.get(
            self.kind, "the untrained network with a head by PCA"
        )


@dataclass(frozen=True)
class Made:
    """What a training leaves: the weights at its start, its last and its best ones."""

    start: Candidate
    last: Candidate
    best: Candidate
    moving: Moving | None


@dataclass(frozen=True)
class Choice:
    """`shipped`, the best that training made, and all that were compared, with their scores."""

    shipped: Candidate
    trained: Candidate
    compared: list[Candidate]

    def curve(self) -> list[dict[str, float]]:
        """Validation by share of the way from the start, for config.json and the plots."""
        return [
            {"share": c.share, "map": c.score.map, "error": round(c.score.error, 4)}
            for c in sorted(self.compared, key=lambda c: c.share or 0)
            if c.share is not None and c.score is not None and np.isfinite(c.score.error)
        ]

    def of(self, kind: str) -> Candidate | None:
        """The candidate of a kind, where it was compared."""
        return next((c for c in self.compared if c.kind == kind), None)


def choose(
    student: Student, probe: Probe | None, made: Made, average: str, untrained: State | None,
    ridge: bool,
) -> Choice:  # fmt: skip
    """Compare what may be shipped; `student` is used to measure and left with other weights.

    `average`: path, moving or none. `untrained`: the untrained network with a closed-form head,
    None where it does not count. `ridge`: the start counts too; a start with a random head does
    not, the untrained network stands for it.
    """
    if probe is None:
        only = unmeasured(made, average, ridge)
        return Choice(only, only, [only])
    compared = [c for c in (made.start, made.best, made.last) if c.score is not None]
    compared = list({c.step: c for c in compared}.values())
    for candidate in averages(made, average):
        compared += measured(student, probe, candidate)
    trained = max((c for c in compared if c.kind != START), key=_map, default=made.start)
    simple = [made.start] if ridge else []
    if untrained is not None:
        bare = measured(student, probe, Candidate(UNTRAINED, untrained, None))
        compared, simple = compared + bare, simple + bare
    shipped = first_that_stands([*simple, trained])
    return Choice(shipped, trained, compared)


def averages(made: Made, average: str) -> Iterator[Candidate]:
    """The averages to measure, of a training that did a step."""
    step = made.last.step
    if average == "path" and step:
        for share in SHARES:
            state = between(made.start.state, made.last.state, share)
            yield Candidate(AVERAGED, state, None, step, share)
    if average == "moving" and step and made.moving is not None:
        yield Candidate(AVERAGED, made.moving.result(made.last.state), None, step)


class Scored(Protocol):
    """Anything with a score, or without."""

    @property
    def score(self) -> Score | None: ...


C = TypeVar("C", bound=Scored)


def first_that_stands(candidates: Sequence[C]) -> C:
    """The simplest (earliest) that no later one beats by more than the error of the gain."""
    chosen = candidates[0]
    for other in candidates[1:]:
        if chosen.score is None or other.score is None:
            continue
        gain, error = other.score.gain_over(chosen.score)
        if gain > error:
            chosen = other
    return chosen


def unmeasured(made: Made, average: str, ridge: bool) -> Candidate:
    """What is shipped where there is nothing to choose by."""
    step = made.last.step
    if average == "moving" and step and made.moving is not None:
        return Candidate(AVERAGED, made.moving.result(made.last.state), None, step)
    if average == "path" and step and ridge:
        state = between(made.start.state, made.last.state, UNMEASURED)
        return Candidate(AVERAGED, state, None, step, UNMEASURED)
    return made.best


def measured(student: Student, probe: Probe, candidate: Candidate) -> list[Candidate]:
    """`candidate` with its score; nothing where its descriptors are no numbers."""
    student.load_state_dict(candidate.state)
    try:
        score = probe(student)
    except UserError:
        console.say(f"{candidate.described()}: no numbers; left out")
        return []
    return [Candidate(candidate.kind, candidate.state, score, candidate.step, candidate.share)]


def _map(candidate: Candidate) -> float:
    return -1.0 if candidate.score is None else candidate.score.map
