"""Whether `dvc exp run --temp` and `--queue` can make their copies of this project.

DVC writes the place of its cache and git's settings of the project into each copy, in ASCII; a
letter beyond it ends the command with "'ascii' codec can't encode character".
"""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .downloads import Finding

SECONDS = 20.0  # dvc and git are waited for no longer


def findings() -> Iterator[Finding]:
    """Nothing outside a project of DVC; else what stands in the way of copies, or that nothing."""
    root = _said("git", "rev-parse", "--show-toplevel")
    dvc = [sys.executable, "-m", "dvc"]
    if (
        not root
        or importlib.util.find_spec("dvc") is None
        or not (cache := _said(*dvc, "cache", "dir"))
    ):
        return
    wrong = list(_wrong(cache))
    yield from ((None, f"dvc exp run --temp and --queue cannot be used: {line}") for line in wrong)
    if not wrong:
        yield True, "dvc exp run --temp and --queue can copy this project"


def _wrong(cache: str) -> Iterator[str]:
    """What DVC cannot write, and how to mend it."""
    if not cache.isascii():
        yield (
            f"DVC writes no letters beyond ASCII, and its cache is {cache}; move it to a path of "
            "plain letters (mv .dvc/cache PATH) and name that: dvc cache dir --local PATH"
        )
    if odd := _odd_lines(Path(_said("git", "rev-parse", "--git-path", "config"))):
        yield f"letters beyond ASCII in git's settings here ({odd}); use git config --global"


def _odd_lines(file: Path) -> str:
    """The names of the settings with letters beyond ASCII; empty where there is none."""
    try:
        lines = file.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return ", ".join(line.partition("=")[0].strip() for line in lines if not line.isascii())


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
