"""Work on all cores, in order; in this process where no others can be had."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from ..core.console import progress
from ..core.errors import UserError

T = TypeVar("T")
R = TypeVar("R")


def each(work: Callable[[T], R], tasks: Sequence[T], label: str, least: int = 8) -> Iterator[R]:
    """`work(task)` of each task, in order; a process more for every `least` tasks."""
    workers = min(_workers(), len(tasks) // least)
    done = 0
    if workers > 1:
        # spawn: a fork of a process that holds threads (torch, BLAS) may never wake up
        context = multiprocessing.get_context("spawn")
        try:
            with ProcessPoolExecutor(workers, mp_context=context) as pool:
                results = pool.map(work, tasks, chunksize=4)
                for result in progress(results, total=len(tasks), label=label):
                    done += 1
                    yield result
        except (BrokenProcessPool, OSError):
            pass  # a sandbox without processes: go on here, where any other error shows again
    yield from progress(map(work, tasks[done:]), total=len(tasks) - done, label=label)


def _workers() -> int:
    given = os.environ.get("WHITEN_MTD_WORKERS", "") or str(os.cpu_count() or 1)
    if not given.isdecimal():
        raise UserError(f"WHITEN_MTD_WORKERS: a whole number is needed, not {given!r}")
    return int(given)
