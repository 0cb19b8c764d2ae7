"""Work done ahead by other processes, in order: decoding never waits for the network."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from ..core.errors import UserError
from ..core.machine import workers

T = TypeVar("T")


class _Jobs(Dataset, Generic[T]):
    """`load(job)` for each of `jobs`; a UserError travels as a value, to keep its one line."""

    def __init__(self, load: Callable[[T], Any], jobs: Sequence[T]) -> None:
        self.load, self.jobs = load, jobs

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.load(self.jobs[index])
        except UserError as error:
            return error


def ahead(
    load: Callable[[T], Any], jobs: Sequence[T], processes: int | None = None
) -> Iterator[Any]:
    """`load(job)` for each job, in order, by worker processes (arrays come back as tensors).

    Raises the UserError that a job raised. `processes` 0: in this process.
    """
    count = min(workers() if processes is None else processes, len(jobs))
    loader = DataLoader(
        _Jobs(load, jobs), batch_size=None, num_workers=count, prefetch_factor=4 if count else None,
        pin_memory=torch.cuda.is_available(), worker_init_fn=_quiet,
        generator=torch.Generator(),  # the global one stays untouched: a resumed run draws the same
    )  # fmt: skip
    try:
        for item in loader:
            if isinstance(item, UserError):
                raise item
            yield item
    except RuntimeError as error:
        if "shared memory" in str(error) or "DataLoader worker" in str(error):
            raise UserError(
                "the loading processes were ended (too little shared memory in /dev/shm?); "
                "set WHITEN_MTD_WORKERS=0 to load in this process"
            ) from None
        raise


def _quiet(_: int) -> None:
    """Workers leave interrupts to the parent, and one thread is theirs."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
