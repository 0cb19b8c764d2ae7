"""Long work on this machine: its device, interrupts, finished parts that the next try takes up."""

import ctypes
import math
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from . import machine
from .errors import UserError
from .files import atomic, check_room, digest_of


def device() -> Any:
    """The torch device to compute on."""
    import torch

    keep_freed_memory()
    name = machine.device_name() or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"WHITEN_MTD_DEVICE: {name!r} cannot be used ({error})") from None
    return chosen


def keep_freed_memory() -> None:
    """Have the C library keep big freed blocks instead of giving each back to the system.

    A network on a CPU frees and takes tens of megabytes a layer; without this every layer's pages
    are mapped and zeroed anew, which cost two fifths of the time of a forward of 64 images.
    """
    mmap_max, trim_threshold, top_pad = -4, -1, -2  # names of mallopt(3)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 1 << 28)


def share_memory() -> None:
    """Have the C library give big freed blocks back at once, and keep few pools for threads.

    A server lives long, and one large image must not cost its memory for ever.
    """
    mmap_threshold, trim_threshold, arena_max = -3, -1, -8  # names of mallopt(3)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(mmap_threshold, 1 << 20)
    mallopt(trim_threshold, 1 << 24)
    mallopt(arena_max, 2)


def give_back_memory() -> None:
    """Give the memory that is free within the C library back to the system."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # another C library
        return


class Stop:
    """Within the block an interrupt is only noted, so that a step is done whole or not at all.

    A second one ends the process at once.
    """

    asked = False

    def __enter__(self) -> "Stop":
        self._old = {s: signal.signal(s, self._note) for s in machine.stopping()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class Parts:
    """Finished pieces of a long job, kept outside every output until the job is whole.

    The folder is named by a fingerprint of everything that the result depends on, so that pieces
    of other inputs are never taken; each piece is renamed into place when whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        """Whether the piece `name` is finished."""
        return (self.folder / f"{name}.npy").is_file()

    def missing(self, rows: int, piece: np.ndarray) -> int:
        """Bytes that the pieces still need of the disk, of `rows` rows like those of `piece`."""
        written = sum(f.stat().st_size for f in self.folder.glob("*.npy"))
        return max(rows * piece[:1].nbytes - written, 0)

    def load(self, name: str) -> np.ndarray | None:
        """The finished piece `name`, or None where there is none (or a damaged one)."""
        try:
            with open(self.folder / f"{name}.npy", "rb") as f:  # npy and nothing else
                return _read_array(f)
        except Exception:  # numpy's readers raise many kinds; a piece that is lost is made again
            return None

    def save(self, name: str, rows: np.ndarray) -> None:
        """Keep a finished piece."""
        rows = np.ascontiguousarray(rows)
        head = np.lib.format.header_data_from_array_1_0(rows)
        with atomic(self.folder / f"{name}.npy") as temporary, open(temporary, "wb") as f:
            np.lib.format.write_array_header_1_0(f, head)
            f.write(rows.reshape(-1).view(np.uint8).data)  # np.save does not say why it fails

    def reserved(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.memmap:
        """An array of zeros on the disk, with room for all of it; gone when the job is done.

        Raises OSError where there is no room. Writing to a map of a file with holes would end the
        process by a signal when the disk is full.
        """
        path = self.folder / name
        count = math.prod(shape) * np.dtype(dtype).itemsize
        path.unlink(missing_ok=True)
        check_room(self.folder, count)
        with open(path, "wb") as f:
            try:
                _reserve(f, count)
            except OSError as error:
                error.filename = str(path)
                raise
        return np.memmap(path, dtype, "r+", shape=shape)


def _read_array(file: BinaryIO) -> np.ndarray:
    """The array of a .npy file. Raises ValueError where the file is not as long as it claims."""
    major, _ = np.lib.format.read_magic(file)
    if major != 1:
        raise ValueError("of another version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    rest = os.fstat(file.fileno()).st_size - file.tell()
    if dtype.hasobject or fortran or math.prod(shape) * dtype.itemsize != rest:
        raise ValueError("not as long as it claims")
    return np.frombuffer(bytearray(file.read()), dtype).reshape(shape)


def _reserve(file: BinaryIO, count: int) -> None:
    """Write `count` zeros, or have the system set the room aside."""
    if hasattr(os, "posix_fallocate") and count:
        os.posix_fallocate(file.fileno(), 0, count)
        return
    for start in range(0, count, 1 << 20):
        file.write(bytes(min(count - start, 1 << 20)))


@contextmanager
def locked(file: Path, refusal: str) -> Iterator[None]:
    """Hold `file` as a lock: of this process alone, and free again when the process is killed.

    Raises UserError with the line `refusal` at once where another process holds it.
    """
    lock = FileLock(file, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(refusal) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def parts(stage: str, **depends: Any) -> Iterator[Parts]:
    """The scratch folder of one job, held by a lock; removed when the block ends well.

    Raises UserError where another process is at the same job.
    """
    folder = machine.scratch() / f"{stage}-{digest_of(depends)}"
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder.with_suffix(".lock")
    with locked(lock, f"{folder}: another process is doing this very job; wait until it is done"):
        folder.mkdir(parents=True, exist_ok=True)
        yield Parts(folder)
        shutil.rmtree(folder)
        lock.unlink(missing_ok=True)
