"""Medians of what is run in turn."""

import time

from stages.core import stopwatch


def test_works_are_run_in_turn_and_the_warm_rounds_do_not_count() -> None:
    calls: list[str] = []

    def slow_at_first() -> None:
        calls.append("a")
        time.sleep(0.2 if len(calls) < 3 else 0.002)

    def quick() -> None:
        calls.append("b")

    slow, fast = stopwatch.in_turn([slow_at_first, quick], times=3, warm=2)
    assert "".join(calls) == "ab" * 5
    assert fast < 0.002 <= slow < 0.1


def test_repeated_takes_about_as_long_as_it_may() -> None:
    runs = 0

    def work() -> None:
        nonlocal runs
        runs += 1
        time.sleep(0.01)

    median = stopwatch.repeated(work, budget=0.1)
    assert 0.01 <= median < 0.1
    assert 4 <= runs <= 12  # the first is a warm-up


def test_a_slow_machine_stops_early() -> None:
    runs = 0

    def work() -> None:
        nonlocal runs
        runs += 1
        time.sleep(0.05)

    stopwatch.repeated(work, budget=0.01)
    assert runs == 2
