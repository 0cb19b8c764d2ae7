"""The machine that a command runs on: its knobs, which no result depends on and nobody tracks.

Every environment variable of this project is read here and nowhere else:

| variable           | what it sets                      | without it                            |
|--------------------|-----------------------------------|---------------------------------------|
| WHITEN_MTD_WORKERS | loading processes; 0: none        | one less than the cores, at most 8    |
|                    | processes that draw or decode     | as many as cores                      |
| WHITEN_MTD_DEVICE  | cpu, cuda, cuda:1, mps            | cuda where there is one, else the cpu |
| WHITEN_MTD_SCRATCH | the folder of unfinished work     | .scratch in the project               |
"""

import os
import platform
import signal
import time
from pathlib import Path

from .errors import UserError

MOST_LOADING = 8  # processes: more of them wait for each other
# How long threads of OpenMP and OpenBLAS spin before they sleep, where others want the cores too.
# By default they spin for milliseconds and take four times the work's own time from everyone.
SHORT_SPIN = {"GOMP_SPINCOUNT": "1000", "OPENBLAS_THREAD_TIMEOUT": "8"}


def cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def load() -> float:
    """Processes that wanted a core, the mean of the last minute; 0 where the system counts none."""
    try:
        return round(os.getloadavg()[0], 1)
    except (AttributeError, OSError):  # Windows
        return 0.0


def others_running() -> int:
    """How many other threads are running now, the median of a few looks; 0 where nobody counts."""
    looks = []
    for look in range(5):
        time.sleep(0.004 if look else 0)
        try:
            lines = Path("/proc/stat").read_text("utf-8").splitlines()
        except OSError:  # macOS, Windows
            return 0
        looks += [int(line.split()[1]) for line in lines if line.startswith("procs_running ")]
    return max(sorted(looks)[len(looks) // 2] - 1, 0) if looks else 0


def spin_briefly(others: int | None = None) -> None:
    """Let threads sleep soon where `others` (those that run now) fill half of the cores; to be
    called before numpy and torch load. On a free machine spinning makes steps faster, so nothing
    changes there."""
    if any(name in os.environ for name in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", *SHORT_SPIN)):
        return
    if 2 * (others_running() if others is None else others) >= cores():
        os.environ.update(SHORT_SPIN)


def is_busy(before: float) -> bool:
    """Whether the load `before` a measurement was more than the whole machine has cores."""
    return before > (os.cpu_count() or 1)


def busy(before: float) -> str:
    """What figures measured after such a load are worth; empty where the machine was free."""
    if not is_busy(before):
        return ""
    return (
        f"measured on a busy machine (load {before:g} before it, {os.cpu_count() or 1} cores): "
        "a free one is faster"
    )


def processor() -> str:
    """The processor's name, as well as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def workers() -> int:
    """How many loading processes to start beside this one."""
    return _count(max(min(cores() - 1, MOST_LOADING), 0))


def processes() -> int:
    """How many processes to spread work over that has nothing else beside it."""
    return _count(cores())


def device_name() -> str:
    """The device that the environment names, empty where it names none."""
    return os.environ.get("WHITEN_MTD_DEVICE", "")


def scratch() -> Path:
    """Where unfinished work is kept, and what is noted about finished work."""
    return Path(os.environ.get("WHITEN_MTD_SCRATCH") or ".scratch")


def stopping() -> list[signal.Signals]:
    """The signals that ask a command to stop; SIGHUP not where it is ignored, as under `nohup`."""
    signals = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        signals.append(hangup)
    return signals


def _count(default: int) -> int:
    given = os.environ.get("WHITEN_MTD_WORKERS")
    if given is None:
        return default
    if not given.isdecimal():
        raise UserError(f"WHITEN_MTD_WORKERS: a whole number is needed, not {given!r}")
    return int(given)
