"""Loading processes that end, hang or find no room: a line, or the work is done here."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.core.errors import UserError
from stages.nets import prefetch

ROOT = Path(__file__).parents[2]
JOBS = list(range(40))


def rows(job: int) -> np.ndarray:
    return np.full((2, 3), job, np.float32)


def slow(job: int) -> np.ndarray:
    time.sleep(0.2)
    return rows(job)


def one_is_ended(job: int) -> np.ndarray:
    if job == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return rows(job)


def one_is_stopped(job: int) -> np.ndarray:
    if job == 5:
        os.kill(os.getpid(), signal.SIGSTOP)
    return rows(job)


@pytest.mark.parametrize("processes", [0, 1, 2])
def test_items_come_in_order(processes: int) -> None:
    came = list(prefetch.ahead(rows, JOBS, processes))
    assert [int(x[0, 0]) for x in came] == JOBS and all(isinstance(x, torch.Tensor) for x in came)


def test_a_process_that_is_ended_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "SECONDS", 1.0)
    before = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(UserError, match="ended from outside") as error:
        list(prefetch.ahead(one_is_ended, JOBS, 2))
    assert "\n" not in str(error.value)
    assert signal.getsignal(signal.SIGCHLD) == before


def test_a_process_that_is_stopped_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "SECONDS", 0.5)
    monkeypatch.setattr(prefetch, "WAITS", 4)
    start = time.monotonic()
    with pytest.raises(UserError, match="they hang") as error:
        list(prefetch.ahead(one_is_stopped, JOBS, 2))
    assert "\n" not in str(error.value)
    assert time.monotonic() - start < 30


def test_slow_items_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "SECONDS", 0.1)  # a wait that is over is not the last one
    assert len(list(prefetch.ahead(slow, JOBS[:6], 1))) == 6


def test_ten_minutes_are_given() -> None:
    assert prefetch.WAITS * prefetch.SECONDS == 600


def test_without_room_in_shared_memory_this_process_loads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prefetch, "_fits", lambda count: count == 0)
    assert [int(x[0, 0]) for x in prefetch.ahead(rows, JOBS, 2)] == JOBS
    assert "loading in this process" in capsys.readouterr().err


def test_a_real_shared_memory_of_64_kilobytes() -> None:
    code = (
        "import numpy as np\nfrom stages.nets import prefetch\n"
        "big = lambda job: np.full((64, 64, 64), job, np.uint8)\n"
        "print([int(x[0, 0, 0]) for x in prefetch.ahead(big, range(6), 2)])\n"
    )
    line = f"mount -t tmpfs -o size=64k tmpfs /dev/shm && exec '{sys.executable}' -c '{code}'"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    if "permit" in done.stderr or "denied" in done.stderr:
        pytest.skip("no disk can be mounted here")
    assert done.stdout == "[0, 1, 2, 3, 4, 5]\n", done.stderr
    assert "/dev/shm has too little room" in done.stderr


def test_a_job_s_own_error_keeps_its_kind() -> None:
    def odd(job: int) -> np.ndarray:
        raise RuntimeError("of the job")

    with pytest.raises(RuntimeError, match="of the job"):
        list(prefetch.ahead(odd, JOBS, 1))
