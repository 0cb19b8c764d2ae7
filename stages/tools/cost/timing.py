"""A ratio of two things measured in turn, so that a busy machine slows both."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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


def alternate(work: Callable[[], Any], bare: Callable[[], Any], times: int) -> tuple[float, float]:
    """Medians in seconds of both, run in turn `times` times after one warm-up of each."""
    found: list[tuple[float, float]] = []
    for i in range(times + 1):
        spent = []
        for f in (work, bare):
            start = time.perf_counter()
            f()
            spent.append(time.perf_counter() - start)
        if i:
            found.append((spent[0], spent[1]))
    return statistics.median(f[0] for f in found), statistics.median(f[1] for f in found)
