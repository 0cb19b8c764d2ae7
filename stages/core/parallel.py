"""Work on all cores, in order; in this process where no others can be had."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from . import machine
from .console import progress
from .errors import UserError

T = TypeVar("T")
R = TypeVar("R")
CHUNK = 4  # tasks that a process takes at a time


def each(
    work: Callable[[T], R], tasks: Sequence[T], label: str, least: int = 8,
    crashed: Callable[[T], R] | None = None,
) -> Iterator[R]:  # fmt: skip
    """`work(task)` of each task, in order; a process more for every `least` tasks.

    A task that ends its process has the result `crashed(task)`; without it that is a UserError.
    """
    workers, done = min(machine.processes(), len(tasks) // least), 0
    while workers > 1 and done < len(tasks):
        try:
            for result in _pooled(work, tasks[done:], label, workers):
                done += 1
                yield result
        except OSError:
            workers = 0  # a sandbox without processes, or the task's own, which shows again below
        except BrokenProcessPool:
            if not _can_start():
                workers = 0
                continue
            # The culprit is likely one of those that were being worked on; others come back here.
            for task in tasks[done : done + workers * CHUNK]:
                done += 1
                yield _alone(work, task, label, crashed)
    yield from progress(map(work, tasks[done:]), total=len(tasks) - done, label=label, part=True)


def _pooled(work: Callable[[T], R], tasks: Sequence[T], label: str, workers: int) -> Iterator[R]:
    with _processes(workers) as pool:
        results = pool.map(work, tasks, chunksize=CHUNK)
        yield from progress(results, total=len(tasks), label=label, part=True)


def _alone(work: Callable[[T], R], task: T, label: str, crashed: Callable[[T], R] | None) -> R:
    """One task in a process of its own, which may crash."""
    try:
        with _processes(1) as pool:
            return pool.submit(work, task).result()
    except BrokenProcessPool:
        if crashed is None:
            raise UserError(
                f"{label}: a process was ended from outside (memory?); try WHITEN_MTD_WORKERS=1"
            ) from None
        return crashed(task)


def _can_start() -> bool:
    try:
        with _processes(1) as pool:
            return pool.submit(os.getpid).result() > 0
    except (BrokenProcessPool, OSError):
        return False


def _processes(count: int) -> ProcessPoolExecutor:
    # spawn: a fork of a process that holds threads (torch, BLAS) may never wake up
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
