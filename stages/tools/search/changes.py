"""Changes of an index: a new generation, a switch, a way back; one process at a time.

A generation is written beside the others and renamed when it is whole; then CURRENT names it. What
a killed writer left is removed by the next.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from ...core import files, runtime, store
from ...core.errors import UserError
from .generations import OLD_COUNT, SEEN, current, generations, read

KEEP = 5  # generations, the current one among them
PARTS = ("index.faiss", "images.h5")
FIRST = ".first"  # in the folder of an index until its first generation is in use
WRITTEN = re.compile(r"\d{6}|CURRENT|[0-9a-f]+\.onnx")  # what a writer makes


def write(
    folder: Path, index: Any, images: dict[str, np.ndarray], about: dict[str, Any],
    model: Path | None = None,
) -> int:  # fmt: skip
    """Write a new generation and switch to it; returns its number. Call it within `writing`."""
    existing = generations(folder)
    number = (existing[-1] if existing else 0) + 1
    place = folder / f"{number:06d}"
    if not existing:
        (folder / FIRST).touch()
    with files.unfinished(place) as scratch:
        scratch.mkdir()
        faiss.write_index(index, str(scratch / "index.faiss"))
        store.write(scratch / "images.h5", "images", images)
        about = {k: v for k, v in about.items() if k not in ("digest", OLD_COUNT)}
        about |= {"format": store.file_format("index"), "images": len(images["id"])}
        about["files"] = {name: files.digest_of_file(scratch / name) for name in PARTS}
        about["model"] = _keep_model(folder, model) if model is not None else about.get("model")
        files.write_text(
            scratch / "index.json", files.to_json({**about, "digest": files.digest_of(about)})
        )
        os.replace(scratch, place)
    point(folder, number)
    (folder / FIRST).unlink(missing_ok=True)
    _prune(folder, number)
    return number


def point(folder: Path, number: int) -> None:
    """Switch to a generation."""
    files.write_text(folder / "CURRENT", f"{number:06d}\n")


def rollback(folder: Path) -> int:
    """Switch to the newest undamaged generation before the current one, and return its number.

    Where CURRENT is lost or damaged: to the newest undamaged one. Raises UserError without any.
    """
    existing = generations(folder)
    try:
        now = current(folder)
    except UserError:
        if not existing:
            raise
        now = existing[-1] + 1
    for number in [n for n in reversed(existing) if n < now]:
        if _whole(folder, number):
            point(folder, number)
            return number
    raise UserError(f"{folder}: no undamaged generation before {now}; make the index again")


@contextmanager
def writing(folder: Path, mending: bool = False) -> Iterator[None]:
    """Lock the index, or a new or empty folder, for writing; `mending`: also one without CURRENT.

    Where nothing was written the folder is removed again, but only if it was made here: a folder
    that a person made stays. Raises UserError where another process writes, or the folder holds
    files that are no index.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; an index is a folder")
    lock, made = folder / ".lock", not folder.exists()
    if not lock.exists():
        _refuse_others(folder)
    folder.mkdir(parents=True, exist_ok=True)
    locked_before = lock.exists()
    refusal = f"{folder}: another process is writing this index; wait until it is done"
    with runtime.locked(lock, refusal):
        try:
            _refuse_others(folder)  # another process may have written since
            _tidy(folder, mending)
            if generations(folder) and not mending:
                current(folder)
            yield
        finally:
            if not (folder / "CURRENT").exists():  # nothing was written
                if made:
                    shutil.rmtree(folder)
                elif not locked_before:
                    lock.unlink(missing_ok=True)


def _refuse_others(folder: Path) -> None:
    """Raise UserError where a folder is neither empty nor an index or the rest of one."""
    names = {f.name for f in folder.iterdir()} if folder.is_dir() else set()
    ours = {"CURRENT", FIRST} & names or generations(folder)
    left = {name for name in names if _is_left(name)}
    if not ours and names - left - {".lock", SEEN} - ({"models"} if left else set()):
        raise UserError(f"{folder}: contains files that are not an index; give a new folder")


def _is_left(name: str) -> bool:
    """Whether a name is that of what a killed writer of an index left."""
    match = files.UNFINISHED.fullmatch(name)
    return match is not None and WRITTEN.fullmatch(match[1]) is not None


def _tidy(folder: Path, mending: bool) -> None:
    """Remove what killed writers left; the lock is ours, so none of them is at work.

    Where the very first one was killed between its generation and CURRENT, that one is used.
    """
    for place in (folder, folder / "models"):
        for left in place.iterdir() if place.is_dir() else ():
            if _is_left(left.name):
                files.remove(left)
    if (folder / FIRST).exists() and not (folder / "CURRENT").exists() and not mending:
        for number in generations(folder):
            if _whole(folder, number):
                point(folder, number)
            else:
                files.remove(folder / f"{number:06d}")
    (folder / FIRST).unlink(missing_ok=True)


def _keep_model(folder: Path, model: Path) -> str:
    digest = files.digest_of_file(model)
    kept = folder / "models" / f"{digest}.onnx"
    if not kept.is_file():
        with files.atomic(kept) as temporary:
            shutil.copyfile(model, temporary)
    return digest


def _prune(folder: Path, number: int) -> None:
    """Remove the oldest generations, and the models that no other generation names."""
    for old in [n for n in generations(folder) if n < number][: -(KEEP - 1)]:
        shutil.rmtree(folder / f"{old:06d}", ignore_errors=True)
    kept = [folder / f"{n:06d}" / "index.json" for n in generations(folder)]
    try:
        used = {files.read_json(file).get("model") for file in kept if file.is_file()}
    except UserError:
        return  # a damaged one may use any of the models
    for file in (folder / "models").glob("*.onnx"):
        if file.stem not in used:
            file.unlink()


def _whole(folder: Path, number: int) -> bool:
    try:
        read(folder, number)
    except UserError:
        return False
    return True
