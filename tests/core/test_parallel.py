"""Work on several processes: in order, and a crash costs the task that crashes alone."""

import os
from pathlib import Path

import pytest

from stages.core import parallel
from stages.core.errors import UserError

CULPRITS = (3, 17)


def square(number: int) -> int:
    """Its process is gone before there is a result, as where a decoder crashes."""
    if number in CULPRITS:
        os._exit(11)
    return number * number


def told(number: int) -> int:
    return -number


def test_a_crash_is_that_of_one_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHITEN_MTD_WORKERS", "2")
    found = list(parallel.each(square, range(20), "squares", crashed=told))
    assert found == [-n if n in CULPRITS else n * n for n in range(20)]
    with pytest.raises(UserError, match="squares: a process was ended"):
        list(parallel.each(square, range(20), "squares"))


def test_without_processes_the_work_is_done_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WHITEN_MTD_WORKERS", "2")

    def refuse(count: int) -> None:
        raise PermissionError("no processes in here")

    monkeypatch.setattr(parallel, "_processes", refuse)
    assert list(parallel.each(abs, range(-20, 0), "numbers")) == [*range(20, 0, -1)]
