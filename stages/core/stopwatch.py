"""The one stopwatch: medians of repeated runs, in seconds."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

Work = Callable[[], Any]


def seconds(work: Work) -> float:
    """How long `work` takes, once."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turn(works: Sequence[Work], times: int, warm: int = 1) -> list[float]:
    """The median of each of `works`, run in turn, so that a busy machine slows all alike.

    `times` rounds count; the `warm` rounds before them do not.
    """
    rounds = [[seconds(work) for work in works] for _ in range(warm + times)][warm:]
    return [statistics.median(spent) for spent in zip(*rounds, strict=True)]


def repeated(work: Work, budget: float) -> float:
    """The median of `work` after one warm-up, for about `budget` seconds and three times at least.

    On a slow machine one or two runs must do: it stops after three times the budget.
    """
    work()
    spent: list[float] = []
    while len(spent) < 3 or (sum(spent) < budget and len(spent) < 1000):
        spent.append(seconds(work))
        if sum(spent) > 3 * budget:
            break
    return statistics.median(spent)
