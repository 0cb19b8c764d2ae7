"""How commands end: signals, a DVC that is gone, full and closed disks, rests of killed runs."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.core import files, runtime
from stages.core.errors import UserError

ROOT = Path(__file__).parents[2]
SLEEP = """
import signal, time
from stages.core import console
app = console.app()
@app.command()
def main() -> None:
    print("ready", flush=True)
    time.sleep(60)
console.main(app)
"""


def dead() -> int:
    """The number of a process that is gone."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_signal_to_stop_is_an_interrupt(number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", f"import signal; signal.signal(1, signal.SIG_DFL); signal.signal(2, signal.default_int_handler)\n{SLEEP}"],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "goes on where it was" in errors


def test_under_nohup_a_hangup_is_nothing() -> None:
    code = f"import signal; signal.signal(1, signal.SIG_IGN)\n{SLEEP}"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert process.poll() is None
        process.kill()


def test_a_stage_ends_when_its_dvc_is_killed(tmp_path: Path) -> None:
    code, done = tmp_path / "stage.py", tmp_path / "done"
    code.write_text(f"import os, sys\nsys.path.insert(0, {str(ROOT)!r})\n{SLEEP}".replace(
        "console.main(app)", f"try: console.main(app)\nfinally: open({str(done)!r}, 'w').close()"
    ))  # fmt: skip
    outer = f"import subprocess, sys; subprocess.run([sys.executable, {str(code)!r}])"
    env = {**os.environ, "DVC_STAGE": "train"}
    with subprocess.Popen(
        [sys.executable, "-c", outer], env=env, text=True, stdout=subprocess.PIPE
    ) as dvc:
        assert dvc.stdout is not None and dvc.stdout.readline() == "ready\n"
        dvc.kill()
    until = time.monotonic() + 30
    while not done.exists():
        assert time.monotonic() < until, "the stage goes on without its DVC"
        time.sleep(0.1)


def test_rests_of_killed_runs_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    files._left_in.cache_clear()
    rest, living = tmp_path / f".out.h5.{dead()}.tmp", tmp_path / f".out.h5.{os.getppid()}.tmp"
    other = tmp_path / f".another.h5.{dead()}.tmp"
    for file in (rest, living, other):
        file.write_text("half")
    files.write_text(tmp_path / "out.h5", "whole")
    assert not rest.exists() and living.exists() and other.exists()


def test_what_a_library_says_of_a_full_disk_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError) as error, files.atomic(tmp_path / "out"):
        raise RuntimeError(f"I/O error: {os.strerror(errno.ENOSPC)} (os error 28)")
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(tmp_path / "out")
    with pytest.raises(UserError, match="other"), files.atomic(tmp_path / "out"):
        raise UserError("other")
    assert list(tmp_path.iterdir()) == []


def test_room_is_known_before(tmp_path: Path) -> None:
    files.check_room(tmp_path, 1000)
    with pytest.raises(OSError) as error:
        files.check_room(tmp_path, 1 << 60)
    assert error.value.errno == errno.ENOSPC
    parts = runtime.Parts(tmp_path)
    with pytest.raises(OSError):
        parts.reserved("rows", (1 << 40, 64), "f2")
    rows = parts.reserved("rows", (10, 4), "f2")
    assert not rows.any() and os.stat(tmp_path / "rows").st_blocks > 0
