"""Disks that are too small: one line and exit code 2, and the same result once there is room."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from trial import COMMANDS, Trial, count, noted

pytestmark = pytest.mark.faults
SIZES = ("16k", "1100k")  # nothing fits; less than HDF5 and a student need
SCRATCH = ("extract", "train", "describe a teacher")
# Of each command the folder that the small disk stands for.
PLACES = {
    "prepare": "data/prepared", "extract": "data/features", "whiten": "data/whitened",
    "fuse": "data/targets", "train": "models/student", "describe a teacher": "data/described/a",
    "evaluate": "data/results", "index": "index",
}  # fmt: skip
BY_NAME = {c.name: c for c in COMMANDS}


@contextmanager
def disk(place: Path, size: str) -> Iterator[None]:
    """A disk of `size` at `place`; skips the test where none can be mounted."""
    place.mkdir(parents=True, exist_ok=True)
    if not _mount("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)):
        pytest.skip("no disk can be mounted here")
    try:
        yield
    finally:
        assert _mount("umount", str(place))


def _mount(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    except FileNotFoundError:
        return False


def check(trial: Trial, place: Path, size: str, **environment: str) -> str:
    """One try on the small disk, and one when it has grown."""
    with disk(place, size):
        ended = trial.run(**environment)
        assert ended.code in (0, 2), (ended.code, ended.errors)
        assert "Traceback" not in ended.errors, ended.errors
        if ended.code == 2:
            told = [x for x in ended.errors.splitlines() if x.startswith("error: ")]
            assert len(told) == 1 and "No space left" in told[0], ended.errors
        assert _mount("mount", "-o", "remount,size=256m", str(place))
        trial.check_again(**environment)
    return "had room" if ended.code == 0 else "one line"


@pytest.mark.parametrize("name", PLACES)
def test_a_full_disk_is_one_line(
    name: str, finished: Path, tmp_path: Path, record_property: Any
) -> None:
    trial = Trial(BY_NAME[name], finished, tmp_path)
    came = noted(record_property, 1, list(PLACES).index(name), f"`{name}`, full disk")
    for size in SIZES:
        trial.restore()
        count(came, check(trial, trial.folder / PLACES[name], size))
        if name in SCRATCH:
            trial.restore()
            place = tmp_path / "scratch"
            count(came, f"{check(trial, place, size, WHITEN_MTD_SCRATCH=str(place))} (scratch)")
