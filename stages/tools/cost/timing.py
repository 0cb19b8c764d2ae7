"""A ratio of two things measured in turn, so that a busy machine slows both."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass

from ...core import stopwatch
from ...core.stopwatch import Work


@dataclass(frozen=True)
class Row:
    """One ratio: medians in seconds of the stage's work and of the bare work in it."""

    what: str
    against: str
    seconds: float
    bare: float
    goal: str

    @property
    def ratio(self) -> float:
        """How many times the bare work it takes."""
        return self.seconds / self.bare


@contextmanager
def quietly() -> Iterator[None]:
    """Without what the stage's code says for people, which it would say at each run."""
    with redirect_stderr(io.StringIO()):
        yield


def alternate(work: Work, bare: Work, times: int) -> tuple[float, float]:
    """Medians in seconds of both, run in turn `times` times after one warm-up of each."""
    with quietly():
        of_work, of_bare = stopwatch.in_turn((work, bare), times)
    return of_work, of_bare
