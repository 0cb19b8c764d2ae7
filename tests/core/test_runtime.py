"""Pieces of long work, the lock on a job, and interrupts that wait for the end of a step."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.core import runtime
from stages.core.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WHITEN_MTD_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def test_pieces_come_back_as_they_were() -> None:
    rows = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float16)
    with runtime.parts("extract", a=1) as parts:
        assert not parts.has("0") and parts.load("0") is None
        parts.save("0", rows)
        assert parts.has("0") and not parts.has("1")
        found = parts.load("0")
        assert found is not None and found.dtype == rows.dtype and np.array_equal(found, rows)


@pytest.mark.parametrize("keep", [0, 1, 5, 6, 50, 127, 128, 140, -1])
def test_half_a_piece_is_not_taken(keep: int) -> None:
    with runtime.parts("extract") as parts:
        parts.save("0", np.arange(30.0))
        path = parts.folder / "0.npy"
        path.write_bytes(path.read_bytes()[:keep])
        assert parts.load("0") is None


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"\x80\x04", b"\0\0\0\0", b"\x93NUMPX"])
def test_another_files_head_is_not_taken(head: bytes) -> None:
    with runtime.parts("extract") as parts:
        parts.save("0", np.arange(30.0))
        path = parts.folder / "0.npy"
        path.write_bytes(head + path.read_bytes()[len(head) :])
        assert parts.load("0") is None


def test_random_damage_to_the_header_is_not_a_crash() -> None:
    rng = np.random.default_rng(0)
    with runtime.parts("extract") as parts:
        parts.save("0", np.arange(30.0))
        path = parts.folder / "0.npy"
        whole = path.read_bytes()
        for _ in range(200):
            changed = bytearray(whole)
            changed[int(rng.integers(80))] = int(rng.integers(256))
            path.write_bytes(changed)
            parts.load("0")


def test_the_folder_goes_after_success_and_stays_after_an_error(scratch: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        with runtime.parts("train", seed=0) as parts:
            parts.save("checkpoint", np.arange(3))
            raise ZeroDivisionError
    with runtime.parts("train", seed=0) as again:
        assert again.folder == parts.folder
        assert again.load("checkpoint").tolist() == [0, 1, 2]  # type: ignore[union-attr]
    assert list(scratch.iterdir()) == []


def test_pieces_of_other_inputs_are_never_taken() -> None:
    with pytest.raises(ZeroDivisionError):
        with runtime.parts("extract", views="a") as first:
            first.save("0", np.arange(3))
            raise ZeroDivisionError
    with runtime.parts("extract", views="b") as other:
        assert other.load("0") is None
    with runtime.parts("describe", views="a") as other:
        assert other.load("0") is None


def test_a_second_holder_is_refused_and_harms_nothing() -> None:
    with runtime.parts("extract", a=1) as parts:
        parts.save("0", np.arange(3))
        with pytest.raises(UserError, match="another process") as error:
            with runtime.parts("extract", a=1):
                raise AssertionError("never here")
        assert "\n" not in str(error.value)
        code = (
            "from stages.core import runtime, errors\n"
            "try:\n    with runtime.parts('extract', a=1): print('TAKEN')\n"
            "except errors.UserError: print('REFUSED')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30
        )
        assert done.stdout == "REFUSED\n", done
        assert parts.has("0")
        with runtime.parts("extract", a=2):
            pass  # another job is free
    with runtime.parts("extract", a=1):
        pass  # and this one again


def test_the_lock_of_a_killed_process_is_free() -> None:
    code = (
        "from stages.core import runtime\n"
        "with runtime.parts('extract', a=1): print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="another process"), runtime.parts("extract", a=1):
            pass
        holder.kill()
        holder.wait(30)
        with runtime.parts("extract", a=1):
            pass


def test_the_first_signal_is_noted_and_the_second_ends() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    for number in (signal.SIGINT, signal.SIGTERM):
        with pytest.raises(KeyboardInterrupt):
            with runtime.Stop() as stop:
                assert not stop.asked
                os.kill(os.getpid(), number)
                assert stop.asked  # and the block goes on
                os.kill(os.getpid(), number)
                raise AssertionError("the second signal did not end the block")
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert not runtime.Stop().asked


def test_a_device_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHITEN_MTD_DEVICE", "cpu")
    assert runtime.device().type == "cpu"
    for odd in ("toaster", "cuda:99"):
        monkeypatch.setenv("WHITEN_MTD_DEVICE", odd)
        with pytest.raises(UserError, match=odd) as error:
            runtime.device()
        assert "\n" not in str(error.value)
