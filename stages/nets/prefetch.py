"""Work done ahead by other processes, in order: decoding never waits for the network."""

import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from ..core import console
from ..core.errors import UserError
from ..core.machine import workers

T = TypeVar("T")
SHARED = Path("/dev/shm")  # where Linux keeps what the loading processes hand over
SECONDS = 5.0  # that a wait for an item takes before the loading processes are looked at
WAITS = 120  # waits in a row without an item, ten minutes: they hang
TIMED_OUT = re.compile("DataLoader timed out")
ENDED = re.compile(r"DataLoader worker \(pid|.*shared memory")


class _NoRoom:
    """Instead of an item: shared memory has no room for what the loading processes hand over."""


class _Jobs(Dataset, Generic[T]):
    """`load(job)` for each of `jobs`; a UserError travels as a value, to keep its one line."""

    def __init__(self, load: Callable[[T], Any], jobs: Sequence[T], processes: int) -> None:
        self.load, self.jobs, self.processes = load, jobs, processes

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, index: int) -> Any:
        try:
            item = self.load(self.jobs[index])
        except UserError as error:
            return error
        # An item that does not fit would be lost on its way, and waited for for ever.
        return item if _fits(2 * self.processes * getattr(item, "nbytes", 0)) else _NoRoom()


def ahead(
    load: Callable[[T], Any], jobs: Sequence[T], processes: int | None = None
) -> Iterator[Any]:
    """`load(job)` for each job, in order, by worker processes (arrays come back as tensors).

    Raises the UserError that a job raised, and one where the loading processes end or hang.
    `processes` 0: in this process, as everywhere where no others or no room for them can be had.
    """
    count, done = min(workers() if processes is None else processes, len(jobs)), 0
    try:
        with _items(load, jobs, count) as items:
            while (item := _next(items)) is not None and not isinstance(item, _NoRoom):
                if isinstance(item, UserError):
                    raise item
                done += 1
                yield item
        if done == len(jobs):
            return
        why = f"{SHARED} has too little room for loading processes (docker: --shm-size=1g)"
    except _CannotStart as error:
        why = f"no loading processes can be started ({error})"
    console.say(f"{why}: loading in this process")
    yield from ahead(load, jobs[done:], 0)


class _CannotStart(Exception):
    """The system gives no processes, or none of what they need to talk to this one."""


@contextmanager
def _items(load: Callable[[T], Any], jobs: Sequence[T], count: int) -> Iterator[Iterator[Any]]:
    """The loader's items; its processes are gone when the block ends, also those that hang."""
    loader = DataLoader(
        _Jobs(load, jobs, count), batch_size=None, num_workers=count,
        prefetch_factor=4 if count else None, timeout=SECONDS if count else 0,
        pin_memory=torch.cuda.is_available(), worker_init_fn=_quiet,
        generator=torch.Generator(),  # the global one stays untouched: a resumed run draws the same
    )  # fmt: skip
    before = set(multiprocessing.active_children())
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        items = iter(loader)
    except OSError as error:
        raise _CannotStart(error.strerror) from None
    finally:
        # torch's handler raises wherever this process happens to be; `_next` looks by itself.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, handler)
    started = set(multiprocessing.active_children()) - before
    try:
        yield items
    except BaseException:
        for process in started:
            process.kill()  # one that is stopped hears nothing else
        raise


def _next(items: Iterator[Any]) -> Any:
    """The next item, None after the last. Raises UserError where none will come."""
    for _ in range(WAITS):
        try:
            return next(items, None)
        except RuntimeError as error:
            if TIMED_OUT.match(str(error)):
                continue
            if not ENDED.match(str(error)):
                raise
            break
        except (ConnectionError, EOFError):  # ended while it handed something over
            break
    else:
        raise UserError(
            f"no batch came from the loading processes in {WAITS * SECONDS / 60:.0f} minutes: they "
            "hang (is the disk with the images there?); set WHITEN_MTD_WORKERS=0 to load in this "
            "process"
        )
    raise UserError(
        "a loading process was ended from outside (too little memory, or shared memory in "
        "/dev/shm?); set WHITEN_MTD_WORKERS=0 to load in this process"
    )


def _fits(count: int) -> bool:
    """Whether `count` bytes fit into shared memory, where that is a place with an end."""
    if not count or not SHARED.is_dir():
        return True
    room = os.statvfs(SHARED)
    return room.f_bavail * room.f_frsize > count


def _quiet(_: int) -> None:
    """Workers leave interrupts to the parent, and one thread is theirs."""
    for number in (signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
